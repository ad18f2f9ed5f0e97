"""Faults between clients, router and a real pair. After each, `/get_server_info` shows that nothing has leaked."""

import json
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import zmq

from router.request_checks.refused_fields import HARMFUL_FIELDS
from tests.e2e.relay import Relay
from tests.e2e.routers import OwnRouter, own_router
from tests.e2e.servers import TIMEOUT, Servers, holdings, nothing_leaked, post, wait_for
from tests.router.support.raw import post as raw_post
from tests.router.support.threaded import in_thread

PATIENT = httpx.Timeout(TIMEOUT)
HARM = {"session_params": {"id": "x"}, "positional_embed_overrides": [1], "disagg_prefill_dp_rank": 99}


def body(text: str, tokens: int, *, stream: bool = False) -> dict[str, Any]:
    """A request that ends after exactly so many tokens."""
    sampling = {"temperature": 0, "max_new_tokens": tokens, "ignore_eos": True}
    return {"text": text, "stream": stream, "sampling_params": sampling}


def works(base: str) -> bool:
    answer = post(f"{base}/generate", body("After the fault", 4))
    return answer.status_code == 200 and answer.json()["meta_info"]["completion_tokens"] == 4


@contextmanager
def streaming(base: str, text: str, tokens: int) -> Iterator[Iterator[str]]:
    """The events of a stream whose first one is there."""
    with httpx.stream("POST", f"{base}/generate", json=body(text, tokens, stream=True), timeout=PATIENT) as answer:
        assert answer.status_code == 200
        events = (line[6:] for line in answer.iter_lines() if line.startswith("data: "))
        assert '"text"' in next(events)
        yield events


@contextmanager
def relayed(servers: Servers, *flags: str) -> Iterator[tuple[Relay, OwnRouter]]:
    """A router which has the decode server behind a relay."""
    with in_thread(lambda: Relay(servers.decode)) as relay, own_router(servers, *flags, decode=relay.url) as router:
        yield relay, router
        relay.most, relay.silent = None, False
        assert wait_for(lambda: works(router.url))
        assert nothing_leaked(router.url)


# Clients


def test_400_clients_vanish_at_once(servers: Servers) -> None:
    vanishing = 400
    sockets = []
    try:
        for number in range(vanishing):
            one = socket.create_connection(("127.0.0.1", int(servers.router.rsplit(":", 1)[1])), timeout=TIMEOUT)
            sockets.append(one)
            told = body(f"Vanishing {number}", 300, stream=number % 2 == 0)
            one.sendall(raw_post("/generate", {"model": servers.model, **told}))

        def in_flight() -> dict[str, int]:
            mine = [worker for worker in holdings(servers.router) if worker["model"] == servers.model]
            return {worker["role"]: worker["in_flight"] for worker in mine}

        assert wait_for(lambda: in_flight()["decode"] == vanishing), in_flight()
        assert not all(worker["idle"] for worker in holdings(servers.router))
    finally:
        for one in sockets:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
    assert nothing_leaked(servers.router), holdings(servers.router)
    assert post(f"{servers.router}/generate", {"model": servers.model, **body("Then", 4)}).status_code == 200


def test_a_client_that_sends_a_byte_at_a_time(servers: Servers) -> None:
    flags = ("--client-timeout-secs", "20", "--max-concurrent-requests", "1", "--queue-size", "1")
    with own_router(servers, *flags) as router:
        raw = raw_post("/generate", body("Slowly", 4))
        told: list[bytes] = []
        begun = threading.Event()

        def slow() -> None:
            with socket.create_connection(("127.0.0.1", router.port), timeout=TIMEOUT) as one:
                one.sendall(raw[:-80])
                begun.set()
                for number in range(len(raw) - 80, len(raw)):
                    one.sendall(raw[number : number + 1])
                    one.settimeout(0.3)
                    try:
                        told.append(one.recv(4096))
                        return
                    except TimeoutError:
                        pass

        thread = threading.Thread(target=slow)
        thread.start()
        assert begun.wait(TIMEOUT)
        assert works(router.url)
        assert told == [], "the slow client was not waited for"
        thread.join()
        assert b" 408 " in told[0]
        assert nothing_leaked(router.url)


@pytest.mark.parametrize("field", HARMFUL_FIELDS)
def test_what_would_end_a_server_is_refused(servers: Servers, field: str) -> None:
    """SGLang's decode server ends with a session that it does not know, its prefill server with embeddings in JSON."""
    answer = post(f"{servers.router}/generate", {"model": servers.model, **body("Harm", 4), field: HARM[field]})
    assert (answer.status_code, HARMFUL_FIELDS[field] in answer.text) == (400, True)
    assert post(f"{servers.router}/generate", {"model": servers.model, **body("No harm", 4)}).status_code == 200
    assert nothing_leaked(servers.router)


# Servers


def test_bytes_of_a_stranger_on_the_port_for_kv_transfer(servers: Servers) -> None:
    one_rank = dict.fromkeys(("prefill_dp_rank", "prefill_cp_rank", "target_tp_rank", "target_pp_rank"), 0)
    rank = httpx.get(f"http://127.0.0.1:{servers.bootstrap_port}/route", params=one_rank, timeout=PATIENT).json()
    with zmq.Context() as context, context.socket(zmq.PUSH) as stranger:
        stranger.connect(f"tcp://{rank['rank_ip']}:{rank['rank_port']}")
        for message in ([b"hello"], [b""], [b"NixlMsgGuard", b"17"], [b"ABORT"]):
            stranger.send_multipart(message)
        stranger.close(linger=int(1000 * TIMEOUT))
    assert post(f"{servers.router}/generate", {"model": servers.model, **body("No harm", 4)}).status_code == 200


@pytest.mark.parametrize("stream", [False, True])
def test_a_decode_server_that_hangs(servers: Servers, stream: bool) -> None:
    """It takes requests and generates, but not a byte of its answers arrives."""
    with relayed(servers, "--request-timeout-secs", "6") as (relay, router):
        relay.silent = True
        answer = post(f"{router.url}/generate", body("Hanging", 400, stream=stream))
        assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout")
        with pytest.raises(httpx.ReadTimeout):  # long before the router's own, or a stall of this process hides it
            httpx.post(f"{router.url}/generate", json=body("Impatient", 400, stream=stream), timeout=0.5)
        assert nothing_leaked(router.url), holdings(router.url)


def test_answers_that_are_reset_after_k_bytes(servers: Servers) -> None:
    with relayed(servers, "--disable-retries", "--disable-circuit-breaker") as (relay, router):
        for k in (0, 1, 17, 100, 150, 500, 1000):
            relay.most, before = k, relay.cut
            answer = post(f"{router.url}/generate", body(f"Reset {k}", 100, stream=True))
            assert relay.cut > before
            if answer.status_code == 200:
                *_, error, done = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
                assert json.loads(error)["error"]["code"] == 502
                assert done == "[DONE]"
            else:
                assert answer.status_code == 502
                assert "closed the connection" in answer.json()["error"]["message"]
            assert nothing_leaked(router.url), (k, holdings(router.url))


def test_a_breaker_opens_and_closes(servers: Servers) -> None:
    """By clients' requests alone: the router neither probes nor tries the server itself."""
    alone = ("--disable-retries", "--disable-health-check", "--skip-warm-up")
    flags = ("--cb-failure-threshold", "2", "--cb-success-threshold", "1", "--cb-timeout-duration-secs", "4")
    with relayed(servers, *flags, *alone) as (relay, router):
        relay.most = 0
        for number in range(2):
            assert post(f"{router.url}/generate", body(f"Break {number}", 8)).status_code == 502
        assert router.workers()["decode"]["breaker"] == "open"
        assert router.workers()["prefill"]["breaker"] == "closed"
        cut = relay.cut
        answer = post(f"{router.url}/generate", body("Refused", 4))
        assert answer.status_code == 503
        assert 1 <= int(answer.headers["retry-after"]) <= 4
        assert relay.cut == cut, "nothing was sent"
        assert nothing_leaked(router.url)
        assert wait_for(lambda: router.workers()["decode"]["breaker"] == "half_open")
        assert post(f"{router.url}/generate", body("Still broken", 4)).status_code == 502
        assert router.workers()["decode"]["breaker"] == "open"
        relay.most = None
        assert wait_for(lambda: router.workers()["decode"]["breaker"] == "half_open")
        assert works(router.url)
        assert router.workers()["decode"]["breaker"] == "closed"


# The router


def test_a_full_queue(servers: Servers) -> None:
    with (
        own_router(servers, "--max-concurrent-requests", "1", "--queue-size", "1") as router,
        ThreadPoolExecutor(1) as pool,
    ):
        with streaming(router.url, "Long", 400):
            waiting = pool.submit(works, router.url)

            def queued() -> bool:
                return "moa_queue_length 1.0" in httpx.get(f"{router.url}/metrics", timeout=TIMEOUT).text

            assert wait_for(queued)
            answer = post(f"{router.url}/generate", body("One too many", 4))
            assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
            assert not waiting.done()
        assert waiting.result(TIMEOUT), "who waited is served when the first client has left"
        assert nothing_leaked(router.url)


def test_a_worker_that_is_removed_while_it_streams(servers: Servers) -> None:
    with own_router(servers) as router:
        number = router.workers()["decode"]["id"]
        with streaming(router.url, "Removed", 600) as events:
            assert httpx.delete(f"{router.url}/workers/{number}", timeout=TIMEOUT).status_code == 202
            assert router.workers()["decode"]["draining"]
            assert post(f"{router.url}/generate", body("Too late", 4)).status_code == 503
            *_, last, done = events
        assert done == "[DONE]"
        assert json.loads(last)["meta_info"]["completion_tokens"] == 600
        assert wait_for(lambda: "decode" not in router.workers())
        added = post(f"{router.url}/workers", {"url": servers.decode, "worker_type": "decode"})
        assert added.status_code == 202
        assert wait_for(lambda: router.workers()["decode"]["generated"])
        assert works(router.url)
        assert nothing_leaked(router.url)


def test_a_router_that_is_killed_and_started_again_with_traffic(servers: Servers) -> None:
    """Nobody tells the servers to abort what the first one had under way; clients that try again are all served."""
    ready, over = threading.Event(), threading.Event()
    served = [0] * 4
    failed: list[str] = []

    # The processes of a router of several end their requests when their parent is killed.
    with own_router(servers, "--workers", "1") as router, ThreadPoolExecutor(6) as pool:

        def client(number: int) -> None:
            while not over.is_set():
                was_ready = ready.is_set()
                try:
                    answer = post(f"{router.url}/generate", body(f"Client {number}", 4, stream=number % 2 == 0))
                except httpx.TransportError:
                    time.sleep(0.05)
                    continue
                if answer.status_code == 200 and ('"completion_tokens":4' in answer.text):
                    served[number] += 1
                elif was_ready or answer.status_code != 503:
                    failed.append(answer.text)

        def cut_off(stream: bool) -> None:
            with pytest.raises(httpx.TransportError):
                post(f"{router.url}/generate", body(f"Cut off, {stream}", 1500, stream=stream))

        try:
            clients = [pool.submit(client, number) for number in range(4)]
            long_ones = [pool.submit(cut_off, stream) for stream in (False, True)]
            assert wait_for(lambda: all(served))
            router.end(signal.SIGKILL)
            for each in long_ones:
                each.result(TIMEOUT)
            router.start()
            ready.set()
            before = [*served]
            assert wait_for(lambda: all(now > then + 1 for now, then in zip(served, before, strict=True)))
        finally:
            over.set()
        for each in clients:
            each.result(TIMEOUT)
        assert failed == []
        assert nothing_leaked(router.url), holdings(router.url)
        assert works(router.url)
