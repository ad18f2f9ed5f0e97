"""What is kept in a scheduler's process and in the HTTP process, and that it is there before it is asked for."""

from types import SimpleNamespace
from typing import Any

import pytest

from sglang_ext.process_state import process_state
from tests.sglang_ext.open_prompt.test_supported_servers import scheduler

pytestmark = pytest.mark.servers  # imports all of SGLang


@pytest.fixture(autouse=True)
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[type, object]:
    parts: dict[type, object] = {}
    monkeypatch.setattr(process_state, "_parts", parts)
    return parts


@pytest.mark.parametrize(
    ("mode", "page_size", "expected"),
    [
        ("prefill", 16, {"OpenPromptScheduler", "FreePageOrder"}),
        ("decode", 1, {"OpenPromptScheduler"}),
        ("null", 16, {"NoOpenPrompts", "FreePageOrder"}),
    ],
)
def test_of_a_scheduler(kept: dict[type, object], mode: str, page_size: int, expected: set[str]) -> None:
    from sglang_ext import install

    server = scheduler(mode)
    server.tree_cache.token_to_kv_pool_allocator = SimpleNamespace(page_size=page_size, need_sort=True)
    install.for_scheduler(server)
    assert {kind.__name__ for kind in kept} == expected | {"TransferStats", "AbortsOnPrefill", "AnswersOfPrefill"}


def test_of_a_tokenizer_manager(kept: dict[type, object]) -> None:
    from sglang_ext import install

    manager: Any = SimpleNamespace(tokenizer=None)
    install.for_tokenizer_manager(None, manager)
    assert {kind.__name__ for kind in kept} == {"RoomOwners", "TokenizerFingerprint"}


def test_sglang_makes_one_kv_manager_for_a_scheduler_and_no_thread_before() -> None:
    """What is kept of aborted requests is one object for all of a scheduler's transfers."""
    import inspect

    from sglang.srt.disaggregation.decode import DecodePreallocQueue
    from sglang.srt.disaggregation.prefill import PrefillBootstrapQueue
    from sglang.srt.managers.scheduler import Scheduler

    for queue in (PrefillBootstrapQueue, DecodePreallocQueue):
        assert inspect.getsource(queue).count(" kv_manager_class(") == 1
        assert inspect.getsource(Scheduler).count(f" {queue.__name__}(") == 1
        assert f"{queue.__name__}(" in inspect.getsource(Scheduler.init_disaggregation)
