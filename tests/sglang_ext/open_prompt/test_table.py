"""The table of open prompts over SGLang's real radix cache (without a model)."""

from array import array
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sglang_ext.errors import BadSetting
from sglang_ext.open_prompt.operation import InvalidOperation, Operation
from sglang_ext.open_prompt.pins import PinnedPrefixes
from sglang_ext.open_prompt.settings import Settings
from sglang_ext.open_prompt.table import MAX_OPEN_PROMPTS, OpenPromptTable

pytestmark = pytest.mark.servers  # imports much of SGLang

LONGEST = 60
BUDGET = 50


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def table_of(page_size: int = 1) -> tuple[OpenPromptTable, Any, Clock]:
    from sglang.srt.mem_cache.radix_cache import RadixCache

    cache = RadixCache.create_simulated(page_size=page_size)
    clock = Clock()
    return OpenPromptTable(LONGEST, PinnedPrefixes(cache, BUDGET), Settings(ttl=10.0), clock), cache, clock


def prefill(cache: Any, ids: "array[int]") -> Any:
    """What the scheduler does with a segment: its KV is in the cache when it is ready."""
    from sglang.srt.mem_cache.base_prefix_cache import InsertParams
    from sglang.srt.mem_cache.radix_cache import RadixKey

    cache.insert(InsertParams(key=RadixKey(ids)))
    return SimpleNamespace(origin_input_ids=ids, extra_key=None)


Step = tuple[str, int, int, list[int]]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "append", "final", "close", "wait", "room", "flush", "end"]),
        st.integers(0, 4),
        st.integers(0, 30),
        st.lists(st.integers(0, 3), max_size=25),
    ),
    max_size=40,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS, st.sampled_from([1, 4]))
def test_whatever_happens_pins_stay_under_the_budget_and_all_is_given_back(steps: list[Step], page_size: int) -> None:
    prompts, cache, clock = table_of(page_size)
    wanted: dict[str, list[int]] = {}
    for what, number, at, ids in steps:
        name = f"prompt-{number}"
        if what in ("append", "final"):
            operation = Operation(name, "append" if what == "append" else "final", at)
            known = wanted.get(name, [])
            try:
                whole = prompts.extend(operation, array("q", ids), f"{name}-request")
            except InvalidOperation:
                fits = 0 < len(ids) <= LONGEST - at and at <= len(known)
                assert not fits or prompts.open[name].final
                continue
            assert whole.tolist() == known[:at] + ids
            wanted[name] = whole.tolist()
            request = prefill(cache, whole)
            if what == "append":
                prompts.pin_segment(operation, request)
        elif what == "close":
            prompts.close(name)
        elif what == "end":
            prompts.release_aborted(f"{name}-req")
        elif what == "room":
            prompts.pins.release_oldest()
        elif what == "flush":
            cache.reset()
        else:
            clock.now += at
            for each in prompts.expired_ids():
                prompts.expire(each)
        wanted = {name: wanted[name] for name in prompts.open}
        assert prompts.pins.tokens <= BUDGET
        assert cache.protected_size() <= prompts.pins.tokens
    clock.now += 11
    for each in prompts.expired_ids():
        prompts.expire(each)
    assert not prompts.open
    assert prompts.pins.tokens == cache.protected_size() == 0


def test_the_newest_keep_their_pins() -> None:
    prompts, cache, _ = table_of()
    for number in range(3):
        operation = Operation(f"prompt-{number}", "append")
        prompts.pin_segment(operation, prefill(cache, prompts.extend(operation, [number] * 20, "r")))
    assert [prompt.pin is not None and prompt.pin.node is not None for prompt in prompts.open.values()] == [
        False,
        True,
        True,
    ]
    assert prompts.pins.to_json() == {"pinned": 40, "budget": BUDGET, "taken": 1}


def test_a_prompt_that_is_heard_of_lives_on() -> None:
    prompts, cache, clock = table_of()
    operation = Operation("prompt-1", "append")
    request = prefill(cache, prompts.extend(operation, [1, 2], "r"))
    clock.now = 9
    prompts.pin_segment(operation, request)
    clock.now = 18
    assert prompts.expired_ids() == []
    clock.now = 20
    assert prompts.expired_ids() == ["prompt-1"]


def test_a_pinned_prompt_is_one_node_of_the_cache() -> None:
    prompts, cache, _ = table_of()
    operation = Operation("prompt-1", "append")
    for end in range(5, 45, 5):
        whole = prompts.extend(Operation("prompt-1", "append", end - 5), array("q", range(end - 5, end)), "r")
        prompts.pin_segment(operation, prefill(cache, whole))
    (node,) = cache.root_node.children.values()
    assert node.key.token_ids.tolist() == list(range(40))
    assert not node.children
    assert cache.protected_size() == prompts.pins.tokens == 40


def test_no_end_of_open_prompts() -> None:
    prompts, _, _ = table_of()
    for number in range(MAX_OPEN_PROMPTS + 3):
        prompts.extend(Operation(f"prompt-{number}", "append"), [1], "r")
    assert len(prompts.open) == MAX_OPEN_PROMPTS
    assert "prompt-2" not in prompts.open


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("SGLANG_EXT_OPEN_PROMPT_KV_FRACTION", "1", "from 0 to below 1"),
        ("SGLANG_EXT_OPEN_PROMPT_KV_FRACTION", "a third", "is 'a third', but must be a number"),
        ("SGLANG_EXT_OPEN_PROMPT_TTL", "0", "of seconds above 0"),
        ("SGLANG_EXT_SEGMENT_CHUNK", "0.5", "of tokens from 1 up"),
    ],
)
def test_a_setting_that_does_not_fit(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSetting, match=words) as caught:
        Settings.from_environment()
    assert name in str(caught.value)


def test_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings.from_environment() == Settings(0.3, 60.0, 512)
    monkeypatch.setenv("SGLANG_EXT_OPEN_PROMPT_KV_FRACTION", "0.5")
    monkeypatch.setenv("SGLANG_EXT_SEGMENT_CHUNK", "256")
    assert Settings.from_environment() == Settings(0.5, 60.0, 256)
