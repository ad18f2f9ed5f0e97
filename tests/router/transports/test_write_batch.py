"""Writes held back until the end of a pass of the event loop. The transports are fakes, to see each write."""

import asyncio

import pytest

from router.transports.write_batch import MAX_AT_ONCE, MAX_HELD_BYTES, BatchedTransport
from tests.router.support.aio import aio


class FakeTransport:
    """Records what is done with it, in order; `log` is shared by several."""

    def __init__(self, name: str, log: list[tuple[str, bytes | str]]) -> None:
        self.name = name
        self.log = log
        self.closing = False

    def write(self, data: bytes | memoryview) -> None:
        assert not self.closing
        self.log.append((self.name, bytes(data)))

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 5

    def get_extra_info(self, name: str) -> str:
        return f"extra {name}"

    def close(self) -> None:
        self.closing = True
        self.log.append((self.name, "close"))

    def write_eof(self) -> None:
        self.log.append((self.name, "eof"))

    def abort(self) -> None:
        self.closing = True
        self.log.append((self.name, "abort"))


class Transports:
    """Batched transports of the running loop, with the fakes behind them."""

    def __init__(self) -> None:
        self.log: list[tuple[str, bytes | str]] = []
        self.fakes: list[FakeTransport] = []

    def new(self, name: str) -> BatchedTransport:
        self.fakes.append(FakeTransport(name, self.log))
        return BatchedTransport(self.fakes[-1])  # type: ignore[arg-type]

    def take(self) -> list[tuple[str, bytes | str]]:
        log = list(self.log)
        self.log.clear()
        return log


@pytest.fixture
def transports() -> Transports:
    return Transports()


async def end_of_pass() -> None:
    await asyncio.sleep(0)


@aio
async def test_writes_of_one_pass_are_sent_at_its_end_in_order(transports: Transports) -> None:
    first, second = transports.new("first"), transports.new("second")
    first.write(b"a")
    second.write(b"b")
    first.writelines([memoryview(b"c"), b"d"])
    assert transports.take() == []
    assert (first.get_write_buffer_size(), second.get_write_buffer_size()) == (8, 6)
    await end_of_pass()
    assert transports.take() == [("first", b"acd"), ("second", b"b")]
    assert first.get_write_buffer_size() == 5


@aio
async def test_what_is_written_alone_is_soon_not_held_back_any_more(transports: Transports) -> None:
    only = transports.new("only")
    held_back = []
    for _ in range(4 * MAX_AT_ONCE):
        only.write(b"a")
        held_back.append(not transports.take())
        await end_of_pass()
        transports.take()
    assert held_back[:8] == [True, False, True, False, False, False, True, False]
    assert sum(held_back[MAX_AT_ONCE:]) <= 4 * MAX_AT_ONCE / (MAX_AT_ONCE // 2)


@aio
async def test_writes_that_come_together_are_held_back_again(transports: Transports) -> None:
    group = [transports.new(str(number)) for number in range(10)]
    for _ in range(200):
        group[0].write(b"a")
        await end_of_pass()
    transports.take()
    for _ in range(MAX_AT_ONCE // len(group) + 1):
        for each in group:
            each.write(b"b")
        await end_of_pass()
    assert len(transports.take()) == 10 * (MAX_AT_ONCE // len(group) + 1)  # nothing lost on the way
    for each in group:
        each.write(b"c")
    assert transports.take() == []
    await end_of_pass()
    assert transports.take() == [(str(number), b"c") for number in range(10)]


@aio
async def test_large_writes_are_sent_at_once_behind_what_was_held_back(transports: Transports) -> None:
    only = transports.new("only")
    large = bytes(MAX_HELD_BYTES)
    only.write(b"head")
    only.write(large)
    assert transports.take() == [("only", b"head"), ("only", large)]
    await end_of_pass()
    assert transports.take() == []


@aio
async def test_no_more_is_held_back_than_the_limit(transports: Transports) -> None:
    only = transports.new("only")
    half = bytes(MAX_HELD_BYTES // 2)
    only.write(half)
    assert transports.take() == []
    only.write(half)
    assert transports.take() == [("only", half + half)]
    await end_of_pass()
    assert transports.take() == []


@aio
async def test_closing_sends_what_was_held_back_and_aborting_drops_it(transports: Transports) -> None:
    for end, events in (
        ("close", [("end", b"a"), ("end", "close")]),
        ("write_eof", [("end", b"a"), ("end", "eof")]),
        ("abort", [("end", "abort")]),
    ):
        each = transports.new("end")
        each.write(b"a")
        getattr(each, end)()
        await end_of_pass()
        assert transports.take() == events
        await end_of_pass()
        await end_of_pass()


@aio
async def test_a_transport_that_closed_meanwhile_gets_nothing(transports: Transports) -> None:
    lost, other = transports.new("lost"), transports.new("other")
    lost.write(b"a")
    other.write(b"b")
    transports.fakes[0].closing = True
    await end_of_pass()
    assert transports.take() == [("other", b"b")]


@aio
async def test_a_transport_that_fails_keeps_nothing_from_the_others(transports: Transports) -> None:
    broken, other = transports.new("broken"), transports.new("other")
    broken.write(b"a")
    other.write(b"b")

    def fail(data: bytes) -> None:
        raise RuntimeError("write")

    transports.fakes[0].write = fail  # type: ignore[method-assign, assignment]
    errors: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["exception"]))
    await end_of_pass()
    assert transports.take() == [("other", b"b")]
    assert [str(error) for error in errors] == ["write"]


@aio
async def test_other_attributes_are_the_transports(transports: Transports) -> None:
    assert transports.new("only").get_extra_info("peername") == "extra peername"
    with pytest.raises(AttributeError):
        _ = transports.new("only").no_such_attribute
