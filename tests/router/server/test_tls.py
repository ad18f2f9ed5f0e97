"""Routers whose workers speak TLS, and routers that speak TLS to their clients."""

import asyncio
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.tls.settings import TlsSettings
from router.workers.health import HealthSettings
from tests.router.support.aio import aio, run, until
from tests.router.support.certificates import authority, certificate, files, server_tls
from tests.router.support.fakes import Call, FakePair, FakeServer, chat_event, whole
from tests.router.support.processes import free_port, router, wait_for
from tests.router.support.serving import Serving, serving

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}
INFO = {"served_model_name": "fake", "disaggregation_mode": "null", "version": "0.5.17"}
ONCE = HealthSettings(skip_warm_up=True, probe_interval_secs=60, failure_threshold=1)


def secure_pair(**options: Any) -> FakePair:
    """A pair that speaks TLS."""
    pair = FakePair()
    for fake in (pair.prefill, pair.decode):
        fake.server.tls = server_tls(**options)
    return pair


@asynccontextmanager
async def plain_behind(tls: TlsSettings, context: ssl.SSLContext, answers: dict[str, Any]) -> AsyncIterator[Any]:
    """A router in front of one plain server with TLS, and this server."""

    async def handler(call: Call) -> None:
        if call.path in answers:
            await call.answer(answers[call.path])
        elif call.path == "/health":
            await call.send(whole(b""))
        else:
            await call.stream(chat_event("one "), chat_event("two", "stop"))
            await call.done()

    async with (
        FakeServer(handler, tls=context) as server,
        serving(plain=(server.url,), tls=tls, health=ONCE) as client,
    ):
        yield client, server


async def events(client: Serving) -> bytes:
    async with client.http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as answer:
        assert answer.status_code == 200, await answer.aread()
        return await answer.aread()


@aio
async def test_a_chat_through_a_pair_with_tls(tmp_path: Path) -> None:
    """One handshake for each server, prefill and decode; the bootstrap address is the prefill server's host."""
    pair = secure_pair()
    async with serving(pair, tls=files(tmp_path).trusting) as client:
        for _ in range(3):
            text = await events(client)
            assert b'"one "' in text
            assert b'"two"' in text
            assert text.endswith(b"data: [DONE]\n\n")
        assert {call.json["bootstrap_host"] for call in pair.decode.requests} == {"127.0.0.1"}
        assert pair.decode.url.startswith("https://127.0.0.1:")
        assert (pair.prefill.server.accepted, pair.decode.server.accepted) == (1, 1)
        workers = (await client.http.get("/workers")).json()["workers"]
        assert [worker["url"] for worker in workers] == [pair.prefill.url, pair.decode.url]
        await client.freed()


@aio
async def test_a_chat_through_a_plain_server_with_tls(tmp_path: Path) -> None:
    async with plain_behind(files(tmp_path).trusting, server_tls(), {"/server_info": INFO}) as (client, server):
        assert (await events(client)).endswith(b"data: [DONE]\n\n")
        assert server.accepted == 1


@aio
async def test_a_client_that_leaves_ends_its_request_on_servers_with_tls(tmp_path: Path) -> None:
    pair = secure_pair()

    async def decoded(call: Call) -> None:
        pair.room(call).set()
        await call.stream(chat_event("one "))
        await call.gone()

    pair.decode.generate = decoded
    async with serving(pair, tls=files(tmp_path).trusting) as client:
        async with client.http.stream("POST", "/v1/chat/completions", json=CHAT | {"stream": True}) as answer:
            async for _ in answer.aiter_bytes():
                break
        await until(lambda: pair.decode.aborted != [], "the abort reaches decode")
        assert pair.decode.aborted == [pair.decode.requests[0].json["rid"]]
        await client.freed()


@aio
async def test_a_worker_with_tls_that_is_added_later(tmp_path: Path) -> None:
    pair = secure_pair(clients=authority())
    async with serving(tls=files(tmp_path).known, health=ONCE) as client, pair.prefill.server, pair.decode.server:
        for fake in (pair.prefill, pair.decode):
            body = {"url": fake.url, "worker_type": fake.role} | ({"bootstrap_port": 1} if fake is pair.prefill else {})
            assert (await client.post("/workers", body)).status_code == 202
        await until(lambda: client.registry.models() == ["fake"], "both were found")
        assert (await events(client)).endswith(b"data: [DONE]\n\n")
        await client.settled()
        client.registry.close()


PROBLEMS: dict[str, tuple[str | None, dict[str, Callable[[], Any]], str]] = {
    "no authority": (
        None,
        {},
        "its issuer is not trusted; if it is right, name it in --ca-cert-paths",
    ),
    "expired": ("trusting", {"leaf": lambda: certificate(days=-2)}, "is not accepted: certificate has expired"),
    "another host": ("trusting", {"leaf": lambda: certificate("10.0.0.1")}, "certificate is not valid for '127.0.0.1'"),
    "no client certificate": ("trusting", {"clients": authority}, "perhaps for want of a certificate that it trusts"),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_the_router_starts_and_says_what_is_wrong_with_a_certificate(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In `/workers` and in its log; requests get 503."""
    trust, options, reason = PROBLEMS[kind]
    made = {name: make() for name, make in options.items()}
    tls = files(tmp_path).trusting if trust else TlsSettings()

    async def test() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)  # of the servers' side
        with caplog.at_level(logging.WARNING, "router"):
            async with plain_behind(tls, server_tls(**made), {"/server_info": INFO}) as (client, server):
                (worker,) = (await client.http.get("/workers")).json()["workers"]
                assert worker["url"] == server.url
                assert not worker["healthy"]
                assert reason in worker["problem"]
                assert worker["problem"] in caplog.messages
                for path in ("/v1/chat/completions", "/v1/completions"):
                    answer = await client.post(path, CHAT | {"prompt": "hi", "model": None})
                    assert answer.status_code == 503
                assert (await client.http.get("/readiness")).status_code == 503
                assert not server.calls

    run(test)


@aio
async def test_clients_may_come_with_tls(tmp_path: Path) -> None:
    """Requests, streams and long bodies as without."""
    pair = FakePair()
    async with serving(pair, tls=files(tmp_path).serving, max_body=8 << 20) as client:
        assert client.url.startswith("https://")
        assert (await events(client)).endswith(b"data: [DONE]\n\n")
        long = CHAT | {"messages": [{"role": "user", "content": "x" * (4 << 20)}], "stream": True}
        assert (await client.post("/v1/chat/completions", long)).status_code == 200
        assert len(pair.decode.requests[-1].body) > 4 << 20
        context = ssl.create_default_context(cadata=authority().cert_pem.bytes().decode())
        async with httpx.AsyncClient(verify=context, trust_env=False, timeout=60) as verifying:
            assert (await verifying.get(f"{client.url}/health")).status_code == 200
        await client.freed()


def _asks(url: str, trusted: ssl.SSLContext) -> int:
    """The status of an answer in HTTP/2, which ALPN offers."""
    with httpx.Client(http2=True, verify=trusted, trust_env=False, timeout=60) as http:
        answer = http.get(url)
    assert answer.http_version == "HTTP/2"
    assert "date" in answer.headers
    return answer.status_code


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.servers)])
def test_a_router_speaks_tls_on_its_port_alone(tmp_path: Path, processes: int) -> None:
    """Metrics have a plain port, and processes speak plainly among themselves."""
    paths, port, metrics = files(tmp_path), free_port(), free_port()
    trusted = ssl.create_default_context(cafile=paths.authority)
    arguments = ["--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(metrics), "--enable-igw"]
    arguments += ["--tls-cert-path", str(paths.cert), "--tls-key-path", str(paths.key)]
    process = router(*arguments, "--workers", str(processes), "--shutdown-grace-period-secs", "1")
    try:
        wait_for(f"http://127.0.0.1:{metrics}/metrics", process)
        for _ in range(4):
            assert _asks(f"https://127.0.0.1:{port}/liveness", trusted) == 200
            assert _asks(f"https://127.0.0.1:{port}/workers", trusted) == 200
        with pytest.raises(httpx.TransportError):
            httpx.get(f"http://127.0.0.1:{port}/liveness", trust_env=False, timeout=60)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.servers)])
def test_a_router_with_a_wrong_file_does_not_start(tmp_path: Path, processes: int) -> None:
    absent = tmp_path / "absent.pem"
    with router("--enable-igw", "--workers", str(processes), "--ca-cert-paths", str(absent)) as process:
        _, told = process.communicate(timeout=60)
    assert process.returncode == 2
    assert told == f"router: --ca-cert-paths {absent} cannot be read (No such file or directory).\n"
