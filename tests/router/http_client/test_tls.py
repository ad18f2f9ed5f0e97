"""The HTTP client over TLS, against a real server with certificates made for the test."""

import asyncio
from pathlib import Path

import pytest

from router.errors import ConnectFailed, ConnectionLost
from router.http_client.connection import HIGH_WATER
from router.http_client.origin import Origin
from router.tls.contexts import WorkerTls
from router.tls.settings import TlsSettings
from tests.router.support.aio import aio, run, until
from tests.router.support.certificates import authority, certificate, files, server_tls, stranger
from tests.router.support.fakes import Call, FakeServer, chunk, head, whole


async def echo(call: Call) -> None:
    await call.send(whole(call.body or b"hello"))


def origin_of(server: FakeServer, settings: TlsSettings | None = None) -> Origin:
    return Origin(server.url, tls=WorkerTls(settings))


async def get(origin: Origin) -> tuple[int, bytes]:
    response = await origin.request("GET", "/")
    return response.status, await response.read()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_connections_are_kept_and_reused(tmp_path: Path, loop: str) -> None:
    """One handshake serves several requests."""

    async def test() -> None:
        async with FakeServer(echo, tls=server_tls()) as server:
            origin = origin_of(server, files(tmp_path).trusting)
            assert origin.url == f"https://127.0.0.1:{server.port}"
            for _ in range(3):
                assert await get(origin) == (200, b"hello")
            assert server.accepted == 1
            assert server.calls[0].headers["host"] == f"127.0.0.1:{server.port}"
            origin.close()
            await until(lambda: not server.open, "closing the origin closes its idle connections")

    run(test, loop=loop)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_long_bodies_both_ways(tmp_path: Path, loop: str) -> None:
    body = bytes(range(256)) * (40 * HIGH_WATER // 256 + 7)

    async def test() -> None:
        async with FakeServer(echo, tls=server_tls()) as server:
            origin = origin_of(server, files(tmp_path).trusting)
            for _ in range(2):
                response = await origin.request("POST", "/", body)
                assert await response.read() == body
            assert server.accepted == 1
            origin.close()

    run(test, loop=loop)


@aio
async def test_a_long_body_waits_for_a_server_that_does_not_read(tmp_path: Path) -> None:
    """It is encrypted only as the server takes it; and it is dropped with its request."""

    async def stalled(call: Call) -> None:
        raise AssertionError("the body never ends")

    async with FakeServer(stalled, tls=server_tls()) as server:
        server._serve = lambda reader, writer, number: asyncio.sleep(3600)  # type: ignore[method-assign]
        origin = origin_of(server, files(tmp_path).trusting)
        response = origin.start_request("POST", "/", bytes(64 * HIGH_WATER))
        await until(lambda: not response.needs_connection, "it is connected")
        connection = response._connection
        assert connection is not None
        await until(lambda: connection._writing_paused, "the transport is full")
        unsent = connection._unsent
        assert unsent is not None
        assert len(unsent) > 32 * HIGH_WATER
        response.close()
        assert connection._unsent is None
        await until(lambda: connection._transport is None or connection._parser is None, "it is closed")


@aio
async def test_a_server_that_answers_before_it_read_the_body_is_not_reused(tmp_path: Path) -> None:
    async def refusing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole(b"too long", 413))
        await asyncio.sleep(3600)

    async with FakeServer(echo, tls=server_tls()) as server:
        server._serve = refusing  # type: ignore[method-assign]
        origin = origin_of(server, files(tmp_path).trusting)
        response = await origin.request("POST", "/", bytes(64 * HIGH_WATER))
        assert (response.status, await response.read()) == (413, b"too long")
        assert origin.idle_connection(10) is None


REFUSED = {
    "no authority": (
        certificate,
        TlsSettings(),
        "its issuer is not trusted; if it is right, name it in --ca-cert-paths",
    ),
    "self-signed": (lambda: stranger().issue_cert("127.0.0.1"), None, "its issuer is not trusted"),
    "expired": (lambda: certificate(days=-2), None, "certificate has expired"),
    "another host": (lambda: certificate("10.0.0.1"), None, "certificate is not valid for '127.0.0.1'"),
}


@pytest.mark.claim("workers-prove-who-they-are")
@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_wrong_certificates_are_not_accepted(kind: str, loop: str, tmp_path: Path) -> None:
    leaf, settings, reason = REFUSED[kind]

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # of the server's side
        async with FakeServer(echo, tls=server_tls(leaf())) as server:  # type: ignore[operator]
            origin = origin_of(server, settings or files(tmp_path).trusting)
            with pytest.raises(ConnectFailed) as failed:
                await get(origin)
            assert str(failed.value).startswith(f"the worker {server.url} cannot be reached (its certificate is not")
            assert reason in str(failed.value)
            assert not server.calls

    run(test, loop=loop)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_client_certificates(tmp_path: Path, loop: str) -> None:
    paths = files(tmp_path)

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        async with FakeServer(echo, tls=server_tls(clients=authority())) as server:
            known, unknown = origin_of(server, paths.known), origin_of(server, paths.trusting)
            assert await get(known) == (200, b"hello")
            with pytest.raises(
                ConnectionLost, match=r"perhaps for want of a certificate that it trusts \(--client-cert-path\)"
            ):
                await get(unknown)
            assert len(server.calls) == 1
            known.close()

    run(test, loop=loop)


@aio
async def test_a_server_without_tls(tmp_path: Path) -> None:
    async def nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(whole(b"", 400))
        await reader.read()

    async with FakeServer(echo) as server:
        server._serve = nonsense  # type: ignore[method-assign]
        origin = Origin(f"https://127.0.0.1:{server.port}", tls=WorkerTls(files(tmp_path).trusting))
        with pytest.raises(ConnectFailed, match=r"it does not speak TLS; is its address http://\?"):
            await get(origin)


@aio
async def test_a_server_that_does_not_finish_the_handshake(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await reader.read()
        await asyncio.sleep(3600)

    async with FakeServer(echo) as server:
        server._serve = silent  # type: ignore[method-assign]
        url = f"https://127.0.0.1:{server.port}"
        origin = Origin(url, connect_timeout=0.1, tls=WorkerTls(files(tmp_path).trusting))
        with pytest.raises(ConnectFailed, match=r"cannot be reached \(no answer\)"):
            await get(origin)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_a_server_that_closes_in_mid_stream(tmp_path: Path, loop: str) -> None:
    async def cut(call: Call) -> None:
        await call.send(head(200, ("transfer-encoding", "chunked")) + chunk(b"one"))
        call.drop()

    async def test() -> None:
        async with FakeServer(cut, tls=server_tls()) as server:
            response = await origin_of(server, files(tmp_path).trusting).request("GET", "/")
            with pytest.raises(ConnectionLost, match="closed the connection before its answer was whole"):
                await response.read()

    run(test, loop=loop)


@aio
async def test_closing_a_response_ends_its_connection(tmp_path: Path) -> None:
    """As a server's sign to abort."""

    async def endless(call: Call) -> None:
        await call.send(head(200, ("transfer-encoding", "chunked")) + chunk(b"one"))
        await call.gone()

    async with FakeServer(endless, tls=server_tls()) as server:
        response = await origin_of(server, files(tmp_path).trusting).request("GET", "/")
        response.close()
        await until(lambda: not server.open, "the server sees it")
