"""Which servers have open prompts, and what the others say."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from sglang_ext.open_prompt import scheduler_state

pytestmark = pytest.mark.servers  # imports all of SGLang


def scheduler(mode: str = "prefill", **changes: Any) -> Any:
    """What `install` looks at; `changes` are to the command line, the cache or the scheduler."""
    from sglang.srt.disaggregation.utils import DisaggregationMode
    from sglang.srt.mem_cache.radix_cache import RadixCache

    cache: Any = RadixCache.create_simulated(page_size=16)
    cache.disable = changes.pop("disable", False)
    arguments = {
        "disaggregation_mode": mode,
        "disaggregation_decode_enable_radix_cache": mode == "decode",
        "dp_size": 1,
        "speculative_algorithm": None,
        "enable_deterministic_inference": False,
    }
    here: dict[str, Any] = {
        "disaggregation_mode": DisaggregationMode(mode),
        "tree_cache": cache,
        "max_total_num_tokens": 1000,
        "max_req_input_len": 900,
        "ps": SimpleNamespace(pp_size=changes.pop("pp_size", 1)),
        "enable_lora": False,
    }
    here |= {name: changes.pop(name) for name in list(changes) if name in here}
    return SimpleNamespace(server_args=SimpleNamespace(**(arguments | changes)), **here)


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler_state, "_this_process", scheduler_state._ThisProcess())


@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_a_pair_has_open_prompts(mode: str) -> None:
    scheduler_state.install(None, scheduler(mode))
    state = scheduler_state.current()
    assert state is not None
    assert state.prompts.pins.budget == 300
    assert scheduler_state.unsupported_reason() == ""


OBSTACLES: dict[str, tuple[str, dict[str, Any]]] = {
    "not an enabled RadixCache": ("prefill", {"disable": True}),
    "object, not an enabled RadixCache": ("prefill", {"tree_cache": object()}),
    "--disaggregation-decode-enable-radix-cache": ("decode", {"disaggregation_decode_enable_radix_cache": False}),
    "data parallelism": ("prefill", {"dp_size": 2}),
    "pipeline parallelism": ("prefill", {"pp_size": 2}),
    "speculative decoding": ("decode", {"speculative_algorithm": "EAGLE"}),
    "deterministic inference": ("prefill", {"enable_deterministic_inference": True}),
    "LoRA adapters": ("decode", {"enable_lora": True}),
}


@pytest.mark.parametrize("words", OBSTACLES)
def test_what_is_in_the_way_is_logged(words: str, caplog: pytest.LogCaptureFixture) -> None:
    mode, changes = OBSTACLES[words]
    with caplog.at_level(logging.WARNING):
        scheduler_state.install(None, scheduler(mode, **changes))
    assert scheduler_state.current() is None
    assert words in scheduler_state.unsupported_reason()
    assert [scheduler_state.unsupported_reason() in message for message in caplog.messages] == [True]


def test_a_plain_server_has_none_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    scheduler_state.install(None, scheduler("null"))
    assert "neither a prefill nor a decode server" in scheduler_state.unsupported_reason()
    assert caplog.messages == []
