"""Which servers' NIXL agents get a progress thread."""

from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from nixl import _api

from sglang_ext.cpu.transfer import use_host_memory
from sglang_ext.transfer.progress_thread import disable_progress_thread

pytestmark = pytest.mark.servers  # imports all of SGLang

PREFILL, DECODE = "prefill", "decode"
NOTHING: Any = object()


def thread_of(mode: str, *, on_cpu: bool = False) -> bool:
    """Whether a KV manager of this mode makes its agent with a thread, as SGLang makes it."""
    # Here, since it takes seconds, which every process that collects tests would spend.
    from sglang.srt.disaggregation.utils import DisaggregationMode

    made: list[Any] = []
    args: Any = SimpleNamespace(kv_data_ptrs=[1, 2])

    def init(manager: object, args: object, mode: object, server_args: object, mla: bool = False) -> None:
        made.append(_api.nixl_agent_config(backends=[], num_threads=8))

    hooked = partial(disable_progress_thread, init)
    if on_cpu:
        hooked = partial(use_host_memory, hooked)  # as the list of patches puts them around each other
    hooked(NOTHING, args, DisaggregationMode(mode), object(), mla=True)
    assert made[0].num_threads == 8
    assert vars(args).get("kv_data_mem_kinds") == (["DRAM", "DRAM"] if on_cpu else None)
    return bool(made[0].enable_pthread)


def test_a_prefill_server_has_none_and_a_decode_server_one() -> None:
    assert not thread_of(PREFILL)
    assert thread_of(DECODE)
    assert _api.nixl_agent_config(backends=[]).enable_pthread, "other agents of the process keep theirs"


def test_a_manager_that_fails_leaves_nothing_behind() -> None:
    def init(*_: object) -> None:
        raise RuntimeError("no GPU")

    with pytest.raises(RuntimeError):
        disable_progress_thread(init, NOTHING, NOTHING, PREFILL)
    assert _api.nixl_agent_config(backends=[]).enable_pthread


@pytest.mark.parametrize(
    ("name", "value"), [("SGLANG_EXT_NIXL_PROGRESS_THREAD", "1"), ("SGLANG_DISAGGREGATION_NIXL_BACKEND", "Mooncake")]
)
def test_who_wants_it_or_has_another_backend_keeps_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert thread_of(PREFILL)


def test_on_a_cpu_no_server_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SGLANG_EXT_NIXL_PROGRESS_THREAD", "1")
    assert not thread_of(DECODE, on_cpu=True)
    assert not thread_of(PREFILL, on_cpu=True)
