"""Which servers' NIXL agents get a progress thread. A GPU server is made up: there is none to ask."""

from typing import Any

import pytest
from nixl import _api

from sglang_ext.transfer.progress import poll_transfers

PREFILL, DECODE = "prefill", "decode"


def thread_of(mode: str) -> bool:
    """Whether a KV manager of this mode makes its agent with a thread, as SGLang makes it."""
    # Here, since it takes seconds, which every process that collects tests would spend.
    from sglang.srt.disaggregation.utils import DisaggregationMode

    made: list[Any] = []

    def init(manager: object, args: object, mode: object, server_args: object, mla: bool = False) -> None:
        made.append(_api.nixl_agent_config(backends=[], num_threads=8))

    poll_transfers(init, object(), object(), DisaggregationMode(mode), object(), mla=True)
    assert made[0].num_threads == 8
    return bool(made[0].enable_pthread)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sglang_ext.cpu.is_active", lambda _: False)


@pytest.mark.usefixtures("on_a_gpu")
def test_a_prefill_server_has_none_and_a_decode_server_one() -> None:
    assert not thread_of(PREFILL)
    assert thread_of(DECODE)
    assert _api.nixl_agent_config(backends=[]).enable_pthread, "other agents of the process keep theirs"


@pytest.mark.usefixtures("on_a_gpu")
def test_a_manager_that_fails_leaves_nothing_behind() -> None:
    def init(*_: object) -> None:
        raise RuntimeError("no GPU")

    with pytest.raises(RuntimeError):
        poll_transfers(init, object(), object(), PREFILL)
    assert _api.nixl_agent_config(backends=[]).enable_pthread


@pytest.mark.usefixtures("on_a_gpu")
@pytest.mark.parametrize(
    ("name", "value"), [("SGLANG_EXT_NIXL_PROGRESS_THREAD", "1"), ("SGLANG_DISAGGREGATION_NIXL_BACKEND", "Mooncake")]
)
def test_who_wants_it_or_has_another_backend_keeps_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert thread_of(PREFILL)


def test_on_a_cpu_no_server_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sglang_ext.cpu.is_active", lambda _: True)
    monkeypatch.setenv("SGLANG_EXT_NIXL_PROGRESS_THREAD", "1")
    assert not thread_of(DECODE)
