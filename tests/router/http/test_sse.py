"""Server-sent events, however the network cuts them."""

import asyncio
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ConnectionLost
from router.http import sse
from router.http.sse import EventStream, format_error, format_event, parse_events

STREAM = 'data: {"a": "é"}\n\n: a comment\nevent: x\r\ndata:{"b":"\\n"}\r\n\r\ndata: \n\ndata: [DONE]\n\n'.encode()
PAYLOADS = ['{"a": "é"}'.encode(), b'{"b":"\\n"}']


async def _pieces(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def read(*pieces: bytes) -> list[bytes]:
    async def collect() -> list[bytes]:
        return [payload async for payload in parse_events(_pieces([*pieces]))]

    return asyncio.run(collect())


@pytest.mark.parametrize("cut", range(len(STREAM) + 1))
def test_cut_at_every_byte(cut: int) -> None:
    assert read(STREAM[:cut], STREAM[cut:]) == PAYLOADS


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_cut_anywhere(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert read(*(STREAM[a:b] for a, b in pairwise(edges))) == PAYLOADS


def test_byte_by_byte() -> None:
    assert read(*(bytes([byte]) for byte in STREAM)) == PAYLOADS


def test_the_stream_is_read_past_done() -> None:
    """So that its connection is whole and can be used again."""
    taken: list[bytes] = []

    async def source() -> AsyncIterator[bytes]:
        for piece in (format_event(b"1"), format_event(b"[DONE]"), b"\n"):
            taken.append(piece)
            yield piece

    async def collect() -> list[bytes]:
        return [payload async for payload in parse_events(source())]

    assert asyncio.run(collect()) == [b"1"]
    assert len(taken) == 3


def test_an_event_cut_off_by_the_end_is_no_event() -> None:
    assert read(b'data: 1\n\ndata: {"half') == [b"1"]


LINE_ENDS = [b"\n", b"\r\n", b"\r"]


@pytest.mark.parametrize("end", LINE_ENDS)
@pytest.mark.parametrize("cut", range(60))
def test_every_line_end_cut_at_every_byte(end: bytes, cut: int) -> None:
    stream = (b'data: {"a": 1}\n\n: x\ndata: {\ndata: "b": 2}\n\ndata: [DONE]\n\ndata: 3\n\n').replace(b"\n", end)
    assert read(stream[:cut], stream[cut:]) == [b'{"a": 1}', b'{\n"b": 2}']


def test_nothing_behind_done_counts() -> None:
    assert read(b"data: 1\n\n", b"data: [DONE]\ndata: 2\n\n", b"data: 3\n\n") == [b"1"]


@pytest.mark.parametrize(
    ("pieces", "payloads", "complete"),
    [
        ([b"data: 1\n\n"], [b"1"], False),
        ([b"data: 1\n\ndata: [DONE]"], [b"1"], True),
        ([b'data: {"a": 1}'], [b'{"a": 1}'], False),
        ([b"\xef\xbb\xbfdata: 1\n\ndata: [DONE]\n\n"], [b"1"], True),
        ([b" \n", b'{"a":', b" 1}\n"], [b'{"a": 1}\n'], True),
        ([b""], [], False),
    ],
)
def test_a_stream_or_one_object(pieces: list[bytes], payloads: list[bytes], complete: bool) -> None:
    async def collect() -> None:
        stream = EventStream(_pieces(pieces), or_json=True)
        assert [payload async for payload in stream.payloads()] == payloads
        assert stream.complete == complete

    asyncio.run(collect())


def test_a_stream_that_does_not_end_behind_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "END_TIMEOUT", 0.01)

    async def source(*, lost: bool) -> AsyncIterator[bytes]:
        yield b"data: 1\n\ndata: [DONE]\n\n"
        if lost:
            raise ConnectionLost("the worker is gone.")
        while True:
            await asyncio.sleep(0)
            yield b"data: 2\n\n"

    async def collect() -> None:
        for lost in (False, True):
            assert [payload async for payload in parse_events(source(lost=lost))] == [b"1"]

    asyncio.run(asyncio.wait_for(collect(), 30))


def test_what_ends_a_failed_stream() -> None:
    raw = format_error(ConnectionLost("the worker is gone."))
    assert raw == (
        b'data: {"error":{"message":"the worker is gone.","type":"upstream_error","code":502}}\n\ndata: [DONE]\n\n'
    )
