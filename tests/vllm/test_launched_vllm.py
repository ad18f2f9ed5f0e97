"""The launcher with a real vLLM beside a pair of SGLang's: `make test-vllm`, which makes vLLM's environment first."""

import os
import shutil
import tempfile
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e import mixed
from tests.e2e.launched import Launched
from tests.e2e.servers import TIMEOUT

PYTHON = os.environ.get("FASTER_MOA_VLLM_PYTHON")
pytestmark = [
    pytest.mark.servers,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(PYTHON is None, reason="needs vLLM, in an environment of its own: make test-vllm"),
]


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """A pair and a vLLM server; in the end SIGTERM stops them and leaves nothing."""
    folder = tmp_path_factory.mktemp("vllm")
    config = folder / "mixed.json"
    config.write_text(mixed.config({"engine": "vllm", "vllm_python": os.path.abspath(str(PYTHON))}))
    temporary = tempfile.mkdtemp(prefix="v", dir="/tmp")  # short, since paths of sockets are limited
    launched = Launched(["--config", str(config)], folder, TMPDIR=temporary)
    try:
        with launched.ready(900):
            yield launched
            mixed.check_end(launched)
            assert [name for name in os.listdir(temporary) if name.startswith("moa-")] == []
    finally:
        shutil.rmtree(temporary)


@pytest.fixture(scope="module")
def router(launched: Launched) -> str:
    return mixed.router_of(launched)


def test_both_are_served_and_told_apart(launched: Launched, router: str) -> None:
    assert f"{mixed.PLAIN}-plain" in launched.text()
    assert "plain, vLLM" in launched.text()
    workers = httpx.get(f"{router}/workers", timeout=TIMEOUT).json()["workers"]
    assert [(worker["role"], worker["model"], worker["capability"]) for worker in workers] == [
        ("prefill", mixed.PAIR, "overlay"),
        ("decode", mixed.PAIR, "overlay"),
        ("plain", mixed.PLAIN, "openai"),
    ]
    assert mixed.says(router, mixed.PAIR)
    assert mixed.says(router, mixed.PLAIN)


def test_a_tree_over_both_exits_early_and_says_what_was_not_prefilled_ahead(router: str) -> None:
    mixed.check_tree(router)


def test_vllm_is_killed(launched: Launched, router: str) -> None:
    mixed.check_restart(launched, router)
