# Two commands do everything: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
PROFILE ?=
QUESTION ?= Why is the sky blue during the day and red at sunset?
K ?=
COVERAGE ?=
# Processes that share the tests: one has those with common servers, one those that start their own, and one the rest,
# with what the servers leave of the cores. With less than 19 GB of memory the last two are one, with less than 15 all.
WORKERS ?= $(shell awk '/MemTotal/ {print ($$2 > 19000000 ? 3 : $$2 > 15000000 ? 2 : 0)}' /proc/meminfo)
PYTEST = .venv/bin/python -m pytest
# Container images like to set it: then each process, of which the tests start hundreds, compiles every module anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test test-quick test-peers test-examples test-vllm nightly lint types format clean browser curl

help:
	@echo "make demo        install, start three P/D pairs and answer a question through a tree of agents"
	@echo "make test        install and run every test, twelve minutes on two idle cores; COVERAGE=1 ends with coverage by package"
	@echo "make test K=...  only tests that match, as pytest's -k: K=breaker, K='speculative and not e2e'"
	@echo "make test-quick  every test that needs no SGLang server and is not slow, properties with fewer examples; a minute"
	@echo "make test-peers  the suites of sglang-router and smg, downloaded and run against this router; ten minutes"
	@echo "make test-examples  install agent frameworks (.examples) and test the examples with them, over fake servers"
	@echo "make test-vllm   install a vLLM for CPUs (3.4 GB, .vllm) and test the launcher with it beside a pair"
	@echo "make nightly     what is too long for CI: more examples, random orders, repeated kills; hours"
	@echo "make lint        ruff, the import contracts, and what tests hold the architecture to"
	@echo "make types       mypy"
	@echo "make format      let ruff put style and format right"
	@echo "make clean       remove .venv, .vllm, .examples and caches"

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

ifneq ($(strip $(K)),)
test: install browser curl
	@$(PYTEST) -k "$(K)"
else ifneq ($(strip $(COVERAGE)),)
test: install browser curl
	@$(PYTEST) -n $(WORKERS) --cov --cov-report=; code=$$?; .venv/bin/python -m tests.coverage_by_package; exit $$code
else
test: install browser curl
	@$(PYTEST) -n $(WORKERS)
endif

test-quick: install curl
	@.venv/bin/python -m tests.quick

test-peers: install
	@.venv/bin/python -m tests.peers

# Some of the frameworks need other versions than SGLang, so they have an environment of their own.
test-examples: install
	@test -d .examples || $(PYTHON) -m venv .examples
	@.examples/bin/python -m pip install --quiet --disable-pip-version-check -r examples/requirements.txt
	@FASTER_MOA_EXAMPLES_PYTHON=.examples/bin/python $(PYTEST) tests/examples

# vLLM has an environment of its own, since it needs other versions than SGLang.
test-vllm: install
	@.venv/bin/python -m tests.vllm.install
	@FASTER_MOA_VLLM_PYTHON=.vllm/bin/python $(PYTEST) tests/vllm

nightly: install browser curl
	@.venv/bin/python -m tests.nightly

lint: install
	@.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/lint-imports --no-logo
	@$(PYTEST) -q tests/architecture

types: install
	@.venv/bin/mypy

format: install
	@.venv/bin/ruff check --fix . ; .venv/bin/ruff format .

clean:
	rm -rf .venv .vllm .examples .mypy_cache .ruff_cache .pytest_cache .coverage build *.egg-info
