"""How many tokens of segments the scheduler's next batch takes; the scheduler itself is stood in for."""

from array import array
from types import SimpleNamespace
from typing import Any

import pytest

from sglang_ext.open_prompt import prefill, state
from sglang_ext.open_prompt.pins import Pins
from sglang_ext.open_prompt.prompts import CALM, Limits, Prompts
from sglang_ext.open_prompt.protocol import KEY, Mark

USUAL = 8192


def request(mark: Mark | None) -> Any:
    return SimpleNamespace(sampling_params=SimpleNamespace(custom_params={KEY: mark}))


SEGMENT, FINAL, ORDINARY = request(Mark("a", "append")), request(Mark("a", "final", 8)), request(None)


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> Prompts:
    from sglang.srt.mem_cache.radix_cache import RadixCache

    found = Prompts(100, Pins(RadixCache.create_simulated(page_size=16), 100), Limits(chunk=500), lambda: 0.0)
    found.extend(Mark("a", "append"), array("q", [1]), "r")
    monkeypatch.setattr(state._here, "prompts", found)
    return found


def batch(*waiting: Any, room: bool = True) -> int:
    """The prefill chunk that upstream saw last."""
    seen: list[int] = []

    def original(scheduler: Any, running_batch: Any) -> Any:
        seen.append(scheduler.chunked_prefill_size)
        runs = object() if scheduler.waiting_queue and room else None
        return SimpleNamespace(batch_to_run=runs, running_batch=SimpleNamespace())

    scheduler = SimpleNamespace(
        waiting_queue=list(waiting),
        chunked_req=None,
        enable_overlap=False,
        last_batch=None,
        ps=SimpleNamespace(pp_size=1),
        disagg_prefill_bootstrap_queue=SimpleNamespace(queue=[]),
        chunked_prefill_size=USUAL,
        page_size=16,
    )
    prefill.ordinary_first(original, scheduler, None)
    assert scheduler.chunked_prefill_size == USUAL
    return seen[-1]


HALF, WHOLE = 256, 512  # of 500, in pages of 16


def test_segments_run_in_halves_until_ordinary_requests_stay_away(prompts: Prompts) -> None:
    assert batch(SEGMENT) == WHOLE
    for _ in range(2):
        assert batch(SEGMENT, ORDINARY) == USUAL  # it goes first
        assert [batch(SEGMENT) for _ in range(CALM + 2)] == [HALF] * CALM + [WHOLE] * 2


def test_a_final_request_is_no_sign_of_others(prompts: Prompts) -> None:
    assert batch(SEGMENT, FINAL) == USUAL
    assert batch(SEGMENT) == WHOLE


def test_steps_without_a_batch_of_segments_are_no_calm(prompts: Prompts) -> None:
    batch(ORDINARY)
    for _ in range(2 * CALM):
        batch()
        batch(SEGMENT, room=False)
        batch(SEGMENT, ORDINARY)
    assert batch(SEGMENT) == HALF


def test_where_an_ordinary_request_finds_no_room_segments_go_on_in_halves(prompts: Prompts) -> None:
    assert batch(SEGMENT, ORDINARY, room=False) == HALF
    assert prompts.calm == 0
