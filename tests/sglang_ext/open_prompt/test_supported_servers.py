"""Which servers have open prompts, and what the others say."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from sglang_ext.open_prompt.scheduler_state import NoOpenPrompts, OpenPromptScheduler, open_prompts_of

pytestmark = pytest.mark.servers  # imports all of SGLang


def scheduler(mode: str = "prefill", **changes: Any) -> Any:
    """What decides it; `changes` are to the command line, the cache or the scheduler."""
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
        "tree_cache": cache,
        "max_total_num_tokens": 1000,
        "max_req_input_len": 900,
        "ps": SimpleNamespace(pp_size=changes.pop("pp_size", 1)),
        "enable_lora": False,
    }
    here |= {name: changes.pop(name) for name in list(changes) if name in here}
    return SimpleNamespace(server_args=SimpleNamespace(**(arguments | changes)), **here)


def reason(scheduler: Any) -> str:
    """Why a scheduler has no open prompts."""
    found = open_prompts_of(scheduler)
    assert isinstance(found, NoOpenPrompts)
    return found.reason


@pytest.mark.parametrize("mode", ["prefill", "decode"])
def test_a_pair_has_open_prompts(mode: str) -> None:
    found = open_prompts_of(scheduler(mode))
    assert isinstance(found, OpenPromptScheduler)
    assert found.prompts.pins.budget == 300


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
        told = reason(scheduler(mode, **changes))
    assert words in told
    assert [told in message for message in caplog.messages] == [True]


def test_a_plain_server_has_none_and_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert "neither a prefill nor a decode server" in reason(scheduler("null"))
    assert caplog.messages == []


def test_an_operator_may_switch_them_off(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("SGLANG_EXT_OPEN_PROMPTS", "0")
    assert reason(scheduler()) == "they are switched off with SGLANG_EXT_OPEN_PROMPTS=0"
    assert caplog.messages == []
