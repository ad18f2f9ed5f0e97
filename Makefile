# Two commands do everything: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PROFILE ?=
QUESTION ?= Why is the sky blue during the day and red at sunset?

.PHONY: help install demo test lint types format clean browser curl

help:
	@echo "make demo    install, start three P/D pairs and answer a question through a tree of agents"
	@echo "make test    install and run every test"
	@echo "make lint    ruff: style and format"
	@echo "make types   mypy"
	@echo "make clean   remove .venv and caches"

install:
	@$(PYTHON) launch/install.py $(PROFILE)

demo: install
	@.venv/bin/python -m launch.pd --hetero 3 --ask "$(QUESTION)"

# The page of a run is tested in a real browser.
browser:
	@command -v chromium >/dev/null || (apt-get update -q && apt-get install -qy --no-install-recommends chromium)

# And the router with the command lines of SGLang's documentation.
curl:
	@command -v curl >/dev/null || (apt-get update -q && apt-get install -qy --no-install-recommends curl)

test: install browser curl
	@.venv/bin/python -m pytest

lint: install
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .

types: install
	@.venv/bin/mypy

format: install
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build *.egg-info
