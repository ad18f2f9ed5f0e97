"""The decode server's KV pool under open prompts, over SGLang's own queues, retraction, radix cache and allocators."""

from array import array
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from sglang_ext.open_prompt.operation import is_segment
from tests.sglang_ext.open_prompt.real_decode import RESERVED, DecodeServer
from tests.sglang_ext.open_prompt.real_scheduler import SEARCH, new_request

pytestmark = pytest.mark.servers  # imports all of SGLang
POOL = 96


def ids(first: int, count: int) -> "array[int]":
    return array("q", [first, *range(2, count + 1)])


def pinned(server: DecodeServer, name: str, first: int, count: int) -> None:
    """An open prompt of `count` tokens."""
    rid = server.append(name, ids(first, count))
    server.place()
    server.arrive(rid)


def test_pins_go_before_a_running_request_is_retracted() -> None:
    server = DecodeServer(POOL, budget=60)
    with server.patched():
        pinned(server, "prompt-1", 1, 30)
        pinned(server, "prompt-2", 1000, 30)
        server.submit("long", ids(2000, 20), 60)
        for _ in range(70):
            server.place()
            server.arrive()
            server.decode()
    assert server.finished[-1] == "long"
    assert (server.retracted, server.aborted) == ([], [])
    assert server.state.prompts.pins.released_early == 2


def test_pins_go_before_a_retracted_request_waits() -> None:
    server = DecodeServer(POOL, budget=90)
    with server.patched():
        for number in range(2):
            server.submit(f"request-{number}", ids(1000 * number, 20), 40)
        while server.queue.queue:  # SGLang lets the second in once it could retract enough of the first
            server.place()
            server.arrive()
            server.decode()
        for _ in range(40):
            server.decode()
            if server.retracted:
                break
        assert len(server.retracted) == 1
        for req in server.running.reqs:
            req.sampling_params.max_new_tokens = len(req.output_ids)
        server.decode()
        pin_request(server, new_request("held", ids(5000, 80), 0))
        assert server.state.prompts.pins.tokens == 80
        server.place()
        assert server.state.prompts.pins.tokens == 0
        for _ in range(40):
            server.decode()
    assert sorted(server.finished) == ["request-0", "request-1"]


def pin_request(server: DecodeServer, req: Any) -> None:
    """Cache and pin a prompt, as after a segment."""
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams, InsertParams
    from sglang.srt.mem_cache.radix_cache import RadixKey

    tokens = req.origin_input_ids
    server.cache.evict(EvictParams(num_tokens=len(tokens)))
    slots = server.allocator.alloc(len(tokens))
    assert slots is not None
    server.cache.insert(InsertParams(key=RadixKey(tokens), value=slots))
    server.state.prompts.pins.replace(None, req)


def test_a_retracted_request_does_not_wait_for_segments_that_share_its_prefix() -> None:
    """They lock it in the radix cache, and SGLang ends no transfer while a retracted request waits."""
    server = DecodeServer(POOL, budget=60)
    with server.patched():
        pinned(server, "prompt-1", 1, 40)
        server.submit("short", ids(2000, 4), 16)
        server.submit("long", array("q", [*ids(1, 40), *range(3000, 3010)]), 20)
        while server.queue.queue:
            server.place()
            server.arrive()
            server.decode()
        server.append("prompt-1", array("q", range(4000, 4020)))
        while server.queue.queue:
            server.place()
            server.decode()
        assert server.segments_on_the_way() == 20
        while not server.retracted:
            server.decode()
        assert server.retracted == ["long"]
        for _ in range(100):
            server.place()
            server.arrive()
            server.decode()
    assert server.idle
    assert server.finished == ["prompt-1-40", "prompt-1-60", "short", "long"]


def test_a_retracted_request_waits_for_no_segment_that_has_arrived() -> None:
    """Nor do those that run fail for want of the KV that such a segment holds."""
    server = DecodeServer(POOL, budget=60)
    with server.patched():
        server.submit("first", ids(2000, 20), 50)
        server.submit("second", ids(3000, 20), 30)
        server.place()
        server.arrive()
        segment = server.append("prompt-1", ids(1, 20))
        server.place()
        while not server.retracted:
            server.decode()
        assert server.retracted == ["second"]
        server.arrive(segment)  # only when no retracted request waits does SGLang look for it
        for _ in range(60):
            server.place()
            server.decode()
            if segment in server.finished:
                break
        assert [req.rid for req in server.running.reqs] == ["first"]
        assert len(server.running.reqs[0].output_ids) < 30
        for _ in range(60):
            server.place()
            server.arrive()
            server.decode()
    assert server.finished == [segment, "first", "second"]
    assert server.aborted == []


def test_a_segment_leaves_room_for_the_answers_of_those_before_it() -> None:
    """It cannot be retracted: where one request alone and it overdrew the pool, the request would fail."""
    server = DecodeServer(POOL, budget=60)
    with server.patched():
        server.submit("long", ids(2000, 20), 60)
        server.place()
        large = server.append("prompt-1", ids(1, 20))
        server.append("prompt-2", ids(1000, 10))
        server.place()
        assert server.segments_on_the_way() == 0
        server.arrive("long")
        for _ in range(70):
            server.place()
            server.decode()
        assert server.finished == ["long"]
        assert [each.req.rid for each in server.transfers.queue] == [large, "prompt-2-10"]
    assert server.aborted == []


def test_segments_leave_buffers_for_first_tokens() -> None:
    from sglang.srt.disaggregation.utils import ReqToMetadataIdxAllocator

    server = DecodeServer(10 * POOL, places=48, budget=9 * POOL)
    # As where 16 may run: SGLang then has 32 places more for those that wait for their KV, and as many buffers.
    server.requests.size = 16
    server.queue.req_to_metadata_buffer_idx_allocator = ReqToMetadataIdxAllocator(32)
    with server.patched():
        for number in range(40):
            server.append(f"prompt-{number}", ids(1000 * number, 8))
        server.place()
        server.submit("ordinary", ids(90_000, 8), 2)
        server.place()
        assert [each.req.rid for each in server.transfers.queue][-1] == "ordinary"


def test_pins_go_only_for_a_request_that_lacks_kv() -> None:
    server = DecodeServer(POOL, places=2, budget=60)
    with server.patched():
        pinned(server, "prompt-1", 1, 40)
        server.submit("first", ids(2000, 8), 8)
        server.submit("second", ids(3000, 8), 8)
        server.submit("third", ids(4000, 8), 8)
        server.place()
        assert [each.req.rid for each in server.queue.queue] == ["third"]  # no place, though KV
        server.place()
        assert server.state.prompts.pins.tokens == 40
        server.arrive()
        for _ in range(20):
            server.place()
            server.arrive()
            server.decode()
        assert server.state.prompts.pins.tokens == 40
        server.submit("large", ids(5000, 80), 2)
        server.place()
        assert server.state.prompts.pins.tokens == 0
        assert [each.req.rid for each in server.transfers.queue] == ["large"]


def test_waiting_segments_keep_to_the_budget_and_out_of_the_way() -> None:
    server = DecodeServer(POOL, budget=40)
    with server.patched():
        for number in range(4):
            server.append(f"prompt-{number}", ids(1000 * number, 18))
        server.place()
        assert server.segments_on_the_way() == 36
        server.submit("ordinary", ids(9000, 30), 2)
        server.place()
        assert [each.req.rid for each in server.transfers.queue][-1] == "ordinary"
        server.arrive("prompt-0-18", "prompt-1-18")
        assert server.state.prompts.pins.tokens == 36
        server.place()
        server.place()
        # The newest count: two more segments are on their way, and the pins of the oldest two have gone for them.
        assert server.segments_on_the_way() == 36
        assert server.state.prompts.pins.tokens <= 4


def test_no_room_to_decode_is_kept_for_segments() -> None:
    server = DecodeServer(POOL, budget=60)
    with server.patched():
        for number in range(6):
            server.append(f"prompt-{number}", ids(1000 * number, 8))
        server.place()
        assert server.segments_on_the_way() == 48
        server.submit("ordinary", ids(9000, 96 - 48 - RESERVED), 2)
        server.place()
        assert [each.req.rid for each in server.transfers.queue][-1] == "ordinary"


def test_a_segment_longer_than_the_budget_goes_alone() -> None:
    server = DecodeServer(POOL, budget=20)
    with server.patched():
        long = server.append("prompt-1", ids(1, 50))
        server.append("prompt-2", ids(1000, 10))
        server.place()
        assert server.segments_on_the_way() == 50
        server.arrive(long)
        server.place()
        assert server.segments_on_the_way() == 10


class DecodeMachine(RuleBasedStateMachine):
    """Requests of all kinds in any order: the pool is never overdrawn, no page is lost, nothing waits for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.patches = ExitStack()

    @initialize(page_size=st.sampled_from([1, 4]), places=st.sampled_from([2, 4, 16]), budget=st.integers(0, 80))
    def start(self, page_size: int, places: int, budget: int) -> None:
        self.server = DecodeServer(POOL, page_size, places, budget)
        self.patches.enter_context(self.server.patched())

    @rule(name=st.integers(0, 3), count=st.integers(1, 40))
    def append(self, name: int, count: int) -> None:
        prompt = self.server.state.prompts.open.get(f"prompt-{name}")
        known = 0 if prompt is None else len(prompt.ids)
        if known + count < POOL - 16:
            self.server.append(f"prompt-{name}", ids(1000 * name + known, count))

    @rule(first=st.integers(0, 3), count=st.integers(1, 60), answer=st.integers(1, 24))
    def ordinary(self, first: int, count: int, answer: int) -> None:
        self.count += 1
        self.server.submit(f"ordinary-{self.count}", ids(1000 * first, count), answer)

    @rule(name=st.integers(0, 3))
    def close(self, name: int) -> None:
        self.server.state.prompts.close(f"prompt-{name}")

    @rule(rid=st.sampled_from(["prompt-0", "prompt-1", "prompt", "ordinary"]))
    def fail(self, rid: str) -> None:
        self.server.fail(rid)

    @rule(arrives=st.sampled_from(["nothing", "ordinary", "all"]), steps=st.integers(1, 5))
    def run(self, arrives: str, steps: int) -> None:
        for _ in range(steps):
            self.step(arrives)

    def step(self, arrives: str) -> None:
        pins = self.server.state.prompts.pins
        retracted = len(self.server.retracted)
        self.server.place()
        if arrives == "all":
            self.server.arrive()
        elif arrives == "ordinary":
            self.server.arrive_ordinary()
        self.server.decode()
        assert len(self.server.retracted) == retracted or pins.tokens == 0, "pins go first"

    @invariant()
    def open_prompts_keep_to_the_budget(self) -> None:
        server = self.server
        pins, on_the_way = server.state.prompts.pins, server.segments_on_the_way()
        assert pins.tokens == sum(pin.tokens for pin in pins._held)
        segments = [each for each in server.transfers.queue if is_segment(each.req)]
        assert pins.tokens + on_the_way <= pins.budget or (len(segments) == 1 and not pins.tokens)

    def teardown(self) -> None:
        with self.patches:
            server = self.server
            for _ in range(2000):
                if server.idle:
                    break
                self.step("all")
            assert server.idle, "nothing waits for ever"
            assert server.aborted == []
            for name in list(server.state.prompts.open):
                server.state.prompts.close(name)
            assert server.held_tokens() == 0
            assert server.requests.available_size() == server.requests.size


TestDecodeMachine = DecodeMachine.TestCase
TestDecodeMachine.settings = SEARCH
