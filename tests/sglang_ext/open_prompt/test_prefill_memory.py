"""The prefill server's KV pool under open prompts, over SGLang's own PrefillAdder, radix cache and allocators."""

from array import array
from contextlib import ExitStack

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.sglang_ext.open_prompt.real_scheduler import SEARCH, SEGMENT_CHUNK, PrefillServer, ordinary_requests

pytestmark = pytest.mark.servers  # imports all of SGLang
POOL = 96


def ids(first: int, count: int) -> "array[int]":
    return array("q", [first, *range(2, count + 1)])


@pytest.mark.parametrize("page_size", [1, 4])
def test_a_parked_segment_keeps_the_room_for_its_next_chunk(page_size: int) -> None:
    """Two ordinary requests come while a segment of two thirds of the pool is between two chunks."""
    server = PrefillServer(POOL, page_size, transfer_steps=20)
    with server.patched():
        server.append("prompt-1", ids(1, 64))
        server.step()
        assert server.scheduler.chunked_req is not None
        for number in (100, 200):
            server.submit(f"ordinary-{number}", ids(number, 40), 1)
        for _ in range(120):
            server.step()
        assert server.idle
        assert sorted(server.finished) == ["ordinary-100", "ordinary-200", "prompt-1-64"]


def test_pins_go_only_for_a_request_that_lacks_kv() -> None:
    server = PrefillServer(POOL, 1, places=1)
    with server.patched():
        server.append("prompt-1", ids(1, 30))
        while not server.idle:
            server.step()
        assert server.state.prompts.pins.tokens == 30
        server.submit("first", ids(100, 10), 1)
        server.submit("second", ids(200, 10), 1)
        server.step()  # one place, which the first takes until its KV is sent: the second waits, though not for KV
        server.step()
        assert ordinary_requests(server) == ["second"]
        assert server.state.prompts.pins.tokens == 30
        server.submit("large", ids(300, 80), 1)
        for _ in range(30):
            server.step()
        assert server.finished[-1] == "large"
        assert server.state.prompts.pins.tokens == 0
        assert server.state.prompts.pins.released_early == 1


def test_an_abort_gives_back_what_a_parked_segment_holds() -> None:
    server = PrefillServer(POOL, 1)
    with server.patched():
        server.append("prompt-1", ids(1, 64))
        server.step()
        server.submit("ordinary", ids(100, 20), 1)
        server.step()
        assert server.state.parked_segment is not None
        server.abort("prompt-1")
        while not server.idle:
            server.step()
    assert server.finished == ["ordinary"]
    assert server.held_tokens() == 0
    assert server.requests.available_size() == server.places


def test_the_cache_is_not_flushed_under_a_parked_segment() -> None:
    server = PrefillServer(POOL, 1, overlap=True)
    with server.patched():
        server.append("prompt-1", ids(1, 64))
        server.step()
        assert server.step() is None  # the pass is in flight, so the segment is parked
        assert server.state.parked_segment is not None
        assert not server.flush()
        while not server.idle:
            server.step()
        assert server.finished == ["prompt-1-64"]
        server.step()
        assert server.flush()
        server.state.prompts.close("prompt-1")
    assert server.held_tokens() == 0


class PrefillMachine(RuleBasedStateMachine):
    """Requests of all kinds in any order: no step fails, no page is lost, and nothing waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.patches = ExitStack()

    @initialize(
        page_size=st.sampled_from([1, 4]),
        places=st.sampled_from([2, 4, 16]),
        fraction=st.floats(0.0, 0.9),
        transfer_steps=st.sampled_from([1, 2, 10]),
        overlap=st.booleans(),
    )
    def start(self, page_size: int, places: int, fraction: float, transfer_steps: int, overlap: bool) -> None:
        self.server = PrefillServer(POOL, page_size, places, fraction, transfer_steps, overlap=overlap)
        self.patches.enter_context(self.server.patched())

    @rule(name=st.integers(0, 3), count=st.integers(1, 50))
    def append(self, name: int, count: int) -> None:
        known = len(self.server.known(f"prompt-{name}"))
        if known + count < POOL - 8:
            self.server.append(f"prompt-{name}", ids(1000 * name + known, count))

    @rule(first=st.integers(0, 3), count=st.integers(1, 80), answer=st.integers(1, 8))
    def ordinary(self, first: int, count: int, answer: int) -> None:
        self.count += 1
        self.server.submit(f"ordinary-{self.count}", ids(1000 * first, count), answer)

    @rule(name=st.integers(0, 3))
    def close(self, name: int) -> None:
        self.server.state.prompts.close(f"prompt-{name}")

    @rule(rid=st.sampled_from(["prompt-0", "prompt-1", "prompt", "ordinary"]))
    def abort(self, rid: str) -> None:
        self.server.abort(rid)

    @rule()
    def flush(self) -> None:
        self.server.flush()

    @rule(steps=st.integers(1, 6))
    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.server.step()

    @invariant()
    def pins_keep_to_the_budget(self) -> None:
        pins = self.server.state.prompts.pins
        assert 0 <= pins.tokens <= pins.budget
        assert pins.tokens == sum(pin.tokens for pin in pins._held)

    def teardown(self) -> None:
        with self.patches:
            server = self.server
            limit = 400 + 80 * len(server.scheduler.waiting_queue) * (POOL // SEGMENT_CHUNK)
            for _ in range(limit):
                if server.idle:
                    break
                server.step()
            assert server.idle, "nothing waits for ever"
            for name in list(server.state.prompts.open):
                server.state.prompts.close(name)
            assert server.held_tokens() == 0
            assert server.requests.available_size() == server.places


TestPrefillMachine = PrefillMachine.TestCase
TestPrefillMachine.settings = SEARCH
