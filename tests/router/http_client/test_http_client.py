"""The HTTP client against a real TCP server that answers exactly the bytes a test names."""

import asyncio
import socket
import sys

import pytest

from router.errors import BadRequest, ConnectFailed, ConnectionLost, RouterError, UpstreamTimeout
from router.http_client.connection import HIGH_WATER, Connection
from router.http_client.origin import Origin
from tests.router.support.aio import aio, run, until, within
from tests.router.support.fakes import Call, FakeServer, Handler, chunk, head, whole


def says(raw: bytes) -> Handler:
    async def handler(call: Call) -> None:
        await call.send(raw)

    return handler


def says_and_closes(raw: bytes) -> Handler:
    async def handler(call: Call) -> None:
        await call.send(raw)
        call.writer.close()

    return handler


async def get(origin: Origin, path: str = "/") -> tuple[int, bytes]:
    response = await origin.request("GET", path)
    return response.status, await response.read()


BODIES = {
    "content-length": whole(b"hello"),
    "chunked": head(200, ("transfer-encoding", "chunked")) + chunk(b"hel") + chunk(b"lo") + chunk(b""),
    "interim": head(100) + head(103, ("link", "x")) + whole(b"hello"),
}


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_kept_connections_are_reused(kind: str, loop: str) -> None:
    async def test() -> None:
        async with FakeServer(says(BODIES[kind])) as server:
            origin = Origin(server.url)
            for _ in range(3):
                assert await get(origin) == (200, b"hello")
            assert [call.connection for call in server.calls] == [1, 1, 1]
            origin.close()
            await until(lambda: not server.open, "closing the origin closes its idle connections")

    run(test, loop=loop)


@pytest.mark.parametrize("kind", BODIES)
def test_answers_cut_at_every_byte(kind: str) -> None:
    raw = BODIES[kind]

    async def handler(call: Call) -> None:
        cut = int(call.path[1:])
        await call.send(raw[:cut])
        await asyncio.sleep(0.001)
        await call.send(raw[cut:])

    async def test() -> None:
        async with FakeServer(handler) as server:
            origin = Origin(server.url)
            for cut in range(1, len(raw)):
                assert await get(origin, f"/{cut}") == (200, b"hello")
            assert server.accepted == 1
            origin.close()

    run(test)


@aio
async def test_headers_and_no_content() -> None:
    async with FakeServer(says(head(204, ("X-Some", "Value")))) as server:
        origin = Origin(server.url)
        response = await origin.request("GET", "/")
        assert (response.status, response.header(b"x-some"), await response.read()) == (204, b"Value", b"")
        origin.close()


@aio
async def test_what_is_sent() -> None:
    async with FakeServer(says(whole(b""))) as server:
        origin = Origin(server.url)
        await (await origin.request("POST", "/p?q=1", b'{"a":1}', (("x-request-id", "7"),))).read()
        await (await origin.request("POST", "/empty")).read()
        first, empty = server.calls
        assert (first.method, first.path, first.body) == ("POST", "/p?q=1", b'{"a":1}')
        assert first.headers == {
            "host": f"127.0.0.1:{server.port}",
            "x-request-id": "7",
            "content-type": "application/json",
            "content-length": "7",
        }
        assert empty.headers["content-length"] == "0"
        origin.close()


@aio
async def test_a_connection_the_worker_means_to_close_is_not_kept() -> None:
    async with FakeServer(says(whole(b"x", 200, ("connection", "close")))) as server:
        origin = Origin(server.url)
        for _ in range(2):
            assert await get(origin) == (200, b"x")
        assert server.accepted == 2


@aio
async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with FakeServer(says_and_closes(head(200) + b"hello")) as server:
        assert await get(Origin(server.url)) == (200, b"hello")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize(
    ("raw", "body", "words"),
    [
        (b"", None, "closed the connection without an answer"),
        (b"HTTP/1.1 200 O", None, "closed the connection without an answer"),
        (b"nonsense\r\n\r\n", None, "sent something that is not HTTP"),
        (head(200, ("content-length", "9")) + b"part", b"part", "closed the connection before its answer was whole"),
        (
            head(200, ("transfer-encoding", "chunked")) + chunk(b"part"),
            b"part",
            "closed the connection before its answer was whole",
        ),
        (
            head(200, ("transfer-encoding", "chunked")) + chunk(b"part") + b"zz\r\n",
            b"part",
            "sent something that is not HTTP",
        ),
    ],
)
def test_early_close(raw: bytes, body: bytes | None, words: str, loop: str) -> None:
    """What came before the end is handed out, then the error is raised; no retry, nothing kept."""

    async def test() -> None:
        async with FakeServer(says_and_closes(raw)) as server:
            origin = Origin(server.url)
            got: list[bytes] = []

            async def read() -> None:
                response = await origin.request("POST", "/", b"{}")
                async for piece in response.chunks():
                    got.append(piece)

            with pytest.raises(ConnectionLost, match=words) as lost:
                await read()
            assert server.url in str(lost.value)
            assert (b"".join(got) or None) == body
            assert len(server.calls) == 1
            await until(lambda: not server.open, "the connection is closed")

    run(test, loop=loop)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_stale_idle_connection_is_replaced(loop: str) -> None:
    """The worker closes a kept connection just when the next request arrives on it, unread."""

    async def handler(call: Call) -> None:
        if call.connection == 1 and len(server.calls) > 1:
            call.drop()
        else:
            await call.send(whole(str(call.connection).encode()))

    server = FakeServer(handler)

    async def test() -> None:
        async with server:
            origin = Origin(server.url)
            assert await get(origin) == (200, b"1")
            assert await get(origin) == (200, b"2")
            assert [call.connection for call in server.calls] == [1, 1, 2]
            assert origin.resends == 1
            origin.close()

    run(test, loop=loop)


@aio
async def test_connections_closed_while_idle_are_not_used() -> None:
    async with FakeServer(says_and_closes(whole(b"x"))) as server:
        origin = Origin(server.url)
        for _ in range(3):
            assert await get(origin) == (200, b"x")
            await until(lambda: not server.open, "the server closed")
        assert len(server.calls) == 3


@aio
async def test_what_may_be_done_once_is_not_sent_again() -> None:
    """The worker may have looked at it, whether the connection was kept or not."""

    async def handler(call: Call) -> None:
        if len(server.calls) == 1:
            await call.send(whole(b""))
        else:
            call.drop()

    async with FakeServer(handler) as server:
        origin = Origin(server.url)
        await get(origin)
        with pytest.raises(ConnectionLost, match="closed the connection without an answer"):
            await origin.request("POST", "/", b"{}", at_most_once=True)
        assert [call.connection for call in server.calls] == [1, 1]
        origin.close()


@aio
async def test_what_may_be_done_once_is_not_kept_while_it_is_answered() -> None:
    answer = asyncio.Event()

    async def handler(call: Call) -> None:
        await answer.wait()
        await call.send(whole(b"x"))

    async with FakeServer(handler) as server:
        origin, body = Origin(server.url), bytes(1000)
        response = origin.start_request("POST", "/", body, at_most_once=True)
        await until(lambda: bool(server.calls), "it was sent")
        assert sys.getrefcount(body) == 2  # `body`, and what is counted
        answer.set()
        await response.wait_for_headers()
        assert await response.read() == b"x"
        origin.close()


@aio
async def test_what_may_be_done_once_is_sent_on_a_fresh_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """On one that has long been idle it might be lost, since the worker may close it any moment."""
    monkeypatch.setattr("router.http_client.response.SAFE_IDLE_SECONDS", 0.05)
    async with FakeServer(says(whole(b""))) as server:
        origin = Origin(server.url)
        for once, pause in ((True, 0.0), (True, 0.1), (True, 0.1), (False, 0.1), (False, 0.0)):
            await asyncio.sleep(pause)
            await (await origin.request("POST", "/", b"{}", at_most_once=once)).read()
        assert [call.connection for call in server.calls] == [1, 2, 3, 3, 3]
        await until(lambda: len(server.open) == 1, "the others are closed")
        origin.close()


@aio
async def test_a_worker_that_began_to_answer_is_not_asked_again() -> None:
    async def handler(call: Call) -> None:
        if len(server.calls) == 1:
            await call.send(whole(b"x"))
        else:
            await call.send(b"HTTP/1.1 200 O")
            call.drop()

    async with FakeServer(handler) as server:
        origin = Origin(server.url)
        await get(origin)
        with pytest.raises(ConnectionLost):
            await origin.request("POST", "/", b"{}")
        assert [call.connection for call in server.calls] == [1, 1]


@pytest.mark.parametrize("late", [b"", b"0.02"])
@pytest.mark.parametrize("extra", [whole(b"not yours", 408), b"noise"])
def test_bytes_nobody_asked_for_are_no_answer_to_the_next_request(extra: bytes, late: bytes) -> None:
    async def handler(call: Call) -> None:
        if call.path == "/noisy":
            await call.send(whole(b"one") + (b"" if late else extra))
            if late:
                await asyncio.sleep(float(late))
                await call.send(extra)
        else:
            await call.send(whole(b"two"))

    async def test() -> None:
        async with FakeServer(handler) as server:
            origin = Origin(server.url)
            assert await get(origin, "/noisy") == (200, b"one")
            if late:
                await until(lambda: not server.open, "the noisy connection is closed")
            assert await get(origin) == (200, b"two")
            assert [call.connection for call in server.calls] == [1, 2]
            origin.close()

    run(test)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_large_body_waits_for_its_reader(loop: str) -> None:
    """The client stops reading when nobody takes the body, and nothing is lost."""
    size = 24 << 20
    sent = 0

    async def handler(call: Call) -> None:
        nonlocal sent
        await call.send(head(200, ("content-length", str(size))))
        for number in range(size >> 20):
            await call.send(bytes([number]) * (1 << 20))
            sent += 1 << 20

    async def test() -> None:
        async with FakeServer(handler) as server:
            origin = Origin(server.url)
            response = await origin.request("GET", "/")
            before = -1
            while before != sent:
                before = sent
                await asyncio.sleep(0.1)
            assert sent < size - HIGH_WATER, "the server could send everything to a client that does not read"
            pieces = [piece async for piece in response.chunks()]
            body = b"".join(pieces)
            assert len(body) == size
            assert all(body[number << 20] == number == body[(number << 20) + (1 << 20) - 1] for number in range(24))
            assert await get(origin) is not None
            # Not what was accepted: a stranger may look for a server that had this port before.
            assert {call.connection for call in server.to("/")} == {server.calls[0].connection}
            origin.close()

    run(test, loop=loop)


@aio
async def test_a_large_request() -> None:
    async def handler(call: Call) -> None:
        await call.send(whole(str(len(call.body)).encode() + call.body[-1:]))

    async with FakeServer(handler) as server:
        origin = Origin(server.url)
        response = await origin.request("POST", "/", b"x" * (HIGH_WATER * 3) + b"y")
        assert await response.read() == b"%dy" % (HIGH_WATER * 3 + 1)
        origin.close()


@aio
async def test_timeout() -> None:
    async def handler(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n")
        await call.gone()

    async with FakeServer(handler) as server:
        origin = Origin(server.url)
        with pytest.raises(UpstreamTimeout, match=r"did not answer /slow within 0\.05 s"):
            await origin.request("GET", "/slow", timeout=0.05)
        await until(lambda: not server.open, "the connection is closed")


@aio
async def test_cancel_closes_the_connection() -> None:
    async def handler(call: Call) -> None:
        if call.path == "/body":
            await call.send(head(200, ("content-length", "9")) + b"part")
        await call.gone()

    async def ask(path: str) -> None:
        async with await origin.request("GET", path) as response:
            await response.read()

    async with FakeServer(handler) as server:
        origin = Origin(server.url)
        for number, path in enumerate(("/head", "/body"), 1):
            task = asyncio.create_task(ask(path))
            await until(lambda number=number: len(server.calls) == number, "the request arrived")  # type: ignore[misc]
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: not server.open, "the connection is closed")


@aio
async def test_closing_a_response_early_drops_the_connection() -> None:
    async def handler(call: Call) -> None:
        await call.send(head(200, ("content-length", "9")) + b"part")
        await call.gone()

    async with FakeServer(handler) as server:
        origin = Origin(server.url)
        async with await origin.request("GET", "/") as response:
            assert await anext(response.chunks()) == b"part"
        await until(lambda: not server.open, "the connection is closed")
        response.close()  # harmless


@aio
async def test_concurrent_requests_do_not_mix() -> None:
    async def handler(call: Call) -> None:
        await asyncio.sleep(int(call.path[1:]) % 7 / 1000)
        await call.send(head(200, ("transfer-encoding", "chunked")) + chunk(call.path.encode()))
        await asyncio.sleep(0.002)
        await call.send(chunk(call.body) + chunk(b""))

    async def ask(number: int) -> bytes:
        return await (await origin.request("POST", f"/{number}", b"%d" % number)).read()

    async with FakeServer(handler) as server:
        origin = Origin(server.url)
        for _ in range(2):
            answers = await asyncio.gather(*(ask(number) for number in range(40)))
            assert answers == [b"/%d%d" % (number, number) for number in range(40)]
        assert server.accepted == 40, "the second round must reuse the connections of the first"
        origin.close()
        await until(lambda: not server.open, "all are closed")


@aio
async def test_an_answer_that_ends_after_the_origin_was_closed() -> None:
    async def handler(call: Call) -> None:
        await asyncio.sleep(0.02)
        await call.send(whole(b"late"))

    async with FakeServer(handler) as server:
        origin = Origin(server.url)
        task = asyncio.create_task(get(origin))
        await until(lambda: bool(server.calls), "the request arrived")
        origin.close()
        assert await task == (200, b"late")
        await until(lambda: not server.open, "its connection is closed")


@aio
async def test_unreachable_workers() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        origin = Origin(f"http://127.0.0.1:{reserved.getsockname()[1]}")
        with pytest.raises(ConnectFailed, match=r"cannot be reached \(Connection refused\)"):
            await within(3.0, origin.request("GET", "/"))


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_connection_that_fails_oddly(loop: str) -> None:
    """asyncio raises `ValueError` for this name: nobody would ever be told of an answer that is none."""

    async def test() -> None:
        origin = Origin("http://localhost:1")
        origin.host = "a\0b"
        with pytest.raises(ConnectFailed, match="cannot be reached"):
            await within(3.0, origin.request("GET", "/"))

    run(test, loop=loop)


@aio
async def test_a_worker_that_does_not_accept_in_time() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = []
        for _ in range(4):  # fill the backlog: further connects get no answer
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(full.getsockname())
            waiting.append(each)
        origin = Origin(f"http://127.0.0.1:{full.getsockname()[1]}", connect_timeout=0.1)
        with pytest.raises(ConnectFailed, match=r"cannot be reached \(no answer\)"):
            await origin.request("GET", "/")
        for each in waiting:
            each.close()


@pytest.mark.parametrize(
    ("url", "as_url"),
    [
        ("http://127.0.0.1:30001", "http://127.0.0.1:30001"),
        ("http://127.0.0.1:30001/", "http://127.0.0.1:30001"),
        ("127.0.0.1:30001", "http://127.0.0.1:30001"),
        ("http://Some.Host", "http://some.host:80"),
        ("HTTP://h:7", "http://h:7"),
        ("https://Some.Host", "https://some.host:443"),
        ("HTTPS://h:7/", "https://h:7"),
        ("http://[::1]:7", "http://[::1]:7"),
        ("[fe80::1%eth0]:7", "http://[fe80::1%eth0]:7"),
    ],
)
def test_addresses(url: str, as_url: str) -> None:
    assert Origin(url).url == as_url


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https://h:1/v1",
        "http://",
        "",
        "http://h:port",
        "http://h:99999",
        "http://[::1",
        "http://a..b:1",
        "http://h:1/v1",
        "http://h:1?x=1",
        "ftp://h:1",
        "//h:1",
        "http://h:0",
        "http://user@h:1",
        "http://h:1#x",
        "http://h:1;x",
        "http://h:1\n",
        " http://h:1",
        "http://h\r\n:1",
        "http://h h:1",
        "http://h%41:1",
        "http://b\xfccher:1",
    ],
)
def test_wrong_addresses_are_refused_in_one_sentence(url: str) -> None:
    with pytest.raises(BadRequest) as refused:
        Origin(url)
    assert str(refused.value) == f"{url!r} is not a worker's address; give one like http://127.0.0.1:30001."
    assert isinstance(refused.value, RouterError)


@aio
async def test_who_waits_for_a_new_connection_takes_one_that_is_given_back() -> None:
    """A worker that accepts slowly, as a busy one does, must not hold up requests while others' connections rest."""
    async with FakeServer(says(whole(b"x"))) as server:
        origin = Origin(server.url)
        first = await origin.request("GET", "/")
        slow = asyncio.Event()
        opens = origin._open

        async def open_slowly() -> Connection:
            await slow.wait()
            return await opens()

        origin._open = open_slowly  # type: ignore[method-assign]
        waiting = asyncio.create_task(get(origin))
        gone = asyncio.create_task(get(origin))
        await asyncio.sleep(0.01)
        gone.cancel()
        assert await first.read() == b"x"
        assert await within(3.0, waiting) == (200, b"x")
        assert server.accepted == 1
        slow.set()
        await until(lambda: len(origin._idle) == 2, "the one that was opened meanwhile is kept")
        # It has brought no answer yet, but is as fresh as one that has.
        both = [await origin.request("POST", "/", b"{}", at_most_once=True) for _ in range(2)]
        assert [await each.read() for each in both] == [b"x", b"x"]
        assert server.accepted == 2
        origin.close()


@aio
async def test_who_leaves_while_it_waits_for_a_connection_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its body may be long, and the server may not answer for as long as the connection takes."""
    origin = Origin("http://127.0.0.1:1")
    never = asyncio.Event()

    async def open_never() -> Connection:
        await never.wait()
        raise AssertionError

    monkeypatch.setattr(origin, "_open", open_never)
    responses = [origin.start_request("POST", "/", b"x" * 1000) for _ in range(20)]
    await asyncio.sleep(0)
    responses += [origin.start_request("POST", "/", b"x" * 1000)]  # its attempt has not begun when it leaves
    assert len(origin._waiting) == 21
    for response in responses:
        response.close()
    await until(lambda: not origin._connecting, "every attempt has ended")
    assert not origin._waiting
    assert all(response._request == (b"", b"") for response in responses)


@aio
async def test_who_failed_to_connect_is_forgotten() -> None:
    origin = Origin("http://127.0.0.1:1")
    with pytest.raises(ConnectFailed):
        await get(origin)
    await until(lambda: not origin._connecting, "the attempt has ended")
    assert not origin._waiting


@pytest.mark.parametrize("bad", ["\r", "\n", "\0", "\x01", "\x7f"])
@aio
async def test_headers_with_control_characters_are_not_sent(bad: str) -> None:
    async with FakeServer(says(whole(b"hello"))) as server:
        origin = Origin(server.url)
        for header in ((f"x{bad}y", "1"), ("x", f"1{bad}y: 2")):
            with pytest.raises(BadRequest):
                origin.start_request("GET", "/", headers=(header,))
        response = await origin.request("GET", "/", headers=(("x", "1\t2"),))
        assert await response.read() == b"hello"
        assert len(server.calls) == 1
        origin.close()
