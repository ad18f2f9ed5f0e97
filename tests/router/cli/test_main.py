"""`python -m router` from its command line to its exit code."""

import asyncio
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import orjson
import pytest

from router.cli.parser import parse
from router.load_balancing import POLICIES
from router.server.settings import ServerSettings
from tests.router.support.aio import run, until
from tests.router.support.fakes import Call, FakePair, chat_event, started
from tests.router.support.processes import free_port, router, wait_for

PAIR = ["--pd-disaggregation", "--prefill", "http://127.0.0.1:1", "8998", "--decode", "http://127.0.0.1:2"]


def test_a_full_command_line() -> None:
    settings = parse(
        [*PAIR, "--prefill", "h:3", "8999", "--decode", "h:4", "--policy", "random", "--decode-policy", "power_of_two"]
    )
    assert settings.prefill == (("http://127.0.0.1:1", 8998), ("h:3", 8999))
    assert settings.decode == ("http://127.0.0.1:2", "h:4")
    assert (settings.policy, settings.prefill_policy, settings.decode_policy) == ("random", None, "power_of_two")
    assert (settings.server.host, settings.server.port, settings.trees) == ("0.0.0.0", 30000, None)


@pytest.mark.parametrize("arguments", [[], ["--pd-disaggregation"], ["--enable-igw"], ["--worker-urls"]], ids=str)
def test_workers_may_come_later(arguments: list[str]) -> None:
    settings = parse(arguments)
    assert not [*settings.prefill, *settings.decode, *settings.plain]


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_can_be_named(policy: str) -> None:
    assert parse([*PAIR, "--policy", policy]).policy == policy


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (PAIR[1:], "give --pd-disaggregation"),
        (["--pd-disaggregation", "--decode", "h:1"], "give at least one --prefill URL BOOTSTRAP_PORT and one --decode"),
        (PAIR[:-2], "give at least one --prefill"),
        ([*PAIR, "--prefill", "http://h:1", "2", "3"], "--prefill http://h:1 has 2 ports; give URL BOOTSTRAP_PORT"),
        ([*PAIR, "--prefill", "http://h:1", "x"], "'x' is not the bootstrap port of http://h:1"),
        ([*PAIR, "--prefill", "http://h:1", "0"], "'0' is not the bootstrap port"),
        ([*PAIR, "--prefill", "http://h:1", "65536"], "'65536' is not the bootstrap port"),
        ([*PAIR, "--prefill", "http://h:1", "-5"], "'-5' is not the bootstrap port"),
        ([*PAIR, "--policy", "best"], "argument --policy: invalid choice: 'best'"),
        ([*PAIR, "--port", "http"], "argument --port: invalid int value: 'http'"),
        ([*PAIR, "--port", "70000"], "--port 70000 is out of bounds; give a number from 0 on and up to 65535."),
        ([*PAIR, "--port", "-1"], "--port -1 is out of bounds"),
        (
            [*PAIR, "--worker-probe-interval", "0"],
            "--worker-startup-check-interval 0 is out of bounds; give a number above 0.",
        ),
        ([*PAIR, "--worker-probe-interval", "nan"], "--worker-startup-check-interval nan is out of bounds"),
        ([*PAIR, "--max-payload-size", "0"], "--max-payload-size 0 is out of bounds; give a number from 1 on."),
        (
            [*PAIR, "--max-concurrent-requests", "0"],
            "--max-concurrent-requests 0 would let nothing in; give -1 for no limit, or a number from 1 on.",
        ),
        ([*PAIR, "--max-concurrent-requests", "-2"], "--max-concurrent-requests -2 is out of bounds"),
        (
            [*PAIR, "--api-key", " k"],
            "--api-key is no key; give printable ASCII characters, without a space at either end",
        ),
        (
            [*PAIR, "--request-id-headers", "x-id", "Authorization"],
            "--request-id-headers Authorization would log what clients keep secret; name another header.",
        ),
        ([*PAIR, "--decoder", "x"], "--decoder is no flag of this router; is --decode meant?"),
    ],
)
def test_wrong_flags(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse(arguments)
    assert left.value.code == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("python -m router: error: ")
    assert words in last


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_what_is_refused_at_the_start(tmp_path: Path) -> None:
    """One sentence and exit code 2."""
    trees = tmp_path / "trees.yaml"
    trees.write_text("trees: []")
    keys = tmp_path / "keys.yaml"
    keys.write_text("keys: [{name: a, key: x, rights: [all]}]")
    with taken_port() as port:
        started = {
            f"router: cannot listen on 127.0.0.1:{port} (Address already in use); choose another.": router(
                *PAIR, "--host", "127.0.0.1", "--port", str(port)
            ),
            "router: 'http://h:x' is not a worker's address; give one like http://127.0.0.1:30001.": router(
                *PAIR, "--decode", "http://h:x"
            ),
            f"router: the trees file {trees} is wrong at trees: ": router(*PAIR, "--trees", str(trees)),
            f"router: the keys file {keys} is wrong at keys.0.rights.0: ": router(*PAIR, "--api-keys-file", str(keys)),
            f"router: the keys file {tmp_path} cannot be read": router(
                *PAIR, "--api-keys-file", str(tmp_path), "--workers", "2"
            ),
        }
        for words, process in started.items():
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out) == (2, "")
            assert err.startswith(words)
            assert len(err.splitlines()) == 1


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_serving_until_a_signal(how: signal.Signals, code: int) -> None:
    """Without workers it serves and says so; it ends quietly; a second router on the port is refused."""
    port = free_port()
    process = router(*PAIR, "--host", "127.0.0.1", "--port", str(port), "--log-level", "error")
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = httpx.get(f"http://127.0.0.1:{port}/readiness", timeout=60.0)
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.02)
        assert answer.status_code == 503
        process.send_signal(how)
        out, err = process.communicate(timeout=60)
        assert process.returncode == code
        assert (out, err) == ("", "")
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_open_port_is_warned_of_once(workers: str) -> None:
    port = str(free_port())
    process = router(*PAIR, "--port", port, "--workers", workers, "--log-level", "warn")
    try:
        wait_for(f"http://127.0.0.1:{port}/liveness", process)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
        assert err.count("NO API KEY IS SET: whoever reaches 0.0.0.0:") == 1
    finally:
        process.kill()
        process.communicate()


def test_the_time_limit_of_clients() -> None:
    """A client that connects and sends nothing is not kept."""
    port = free_port()
    process = router(*PAIR, "--host", "127.0.0.1", "--port", str(port), "--client-timeout-secs", "0.2")
    try:
        wait_for(f"http://127.0.0.1:{port}/liveness", process)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as silent:
            assert silent.recv(1) == b""
    finally:
        process.kill()
        process.communicate()


def test_how_long_a_connection_may_lie_idle() -> None:
    """Longer than clients keep theirs, or than proxies do: both send requests until the moment of closing."""
    assert ServerSettings().keep_alive_secs > 60
    port = free_port()
    process = router(*PAIR, "--host", "127.0.0.1", "--port", str(port), "--keep-alive-secs", "1")
    try:
        wait_for(f"http://127.0.0.1:{port}/liveness", process)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as idle:
            idle.sendall(b"GET /liveness HTTP/1.1\r\nhost: x\r\n\r\n")
            told = b""
            while data := idle.recv(4096):
                told += data
        assert told.startswith(b"HTTP/1.1 200 ")
        assert b"connection: close" not in told.lower()
    finally:
        process.kill()
        process.communicate()


def test_two_routers_on_one_port_while_the_first_still_probes() -> None:
    """The port is taken from the start, not only once the first probe of a slow worker is over."""
    with taken_port() as silent:  # accepts, never answers: the first router waits for it
        slow = ["--pd-disaggregation", "--prefill", f"http://127.0.0.1:{silent}", "1", "--decode", "http://127.0.0.1:2"]
        port = str(free_port())
        first = router(*slow, "--port", port)
        try:
            deadline = time.monotonic() + 60
            with socket.socket() as check:
                while check.connect_ex(("127.0.0.1", int(port))):
                    assert time.monotonic() < deadline
                    assert first.poll() is None
                    time.sleep(0.02)
            second = router(*PAIR, "--port", port)
            _, err = second.communicate(timeout=60)
            assert second.returncode == 2
            assert "Address already in use" in err
        finally:
            first.kill()
            first.communicate()


@pytest.mark.parametrize(("grace", "whole"), [("30", True), ("0", False)])
def test_sigterm_lets_streams_end(grace: str, whole: bool) -> None:
    """The port is closed at once, a running stream ends within the grace period, and is aborted after it."""

    async def test() -> None:
        release = asyncio.Event()
        pair = FakePair()

        async def decode(call: Call) -> None:
            pair.room(call).set()
            if not call.json.get("stream"):
                await call.answer({"text": "warm"})
                return
            await call.stream(chat_event("one "))
            if await call.waits_for(release):
                await call.event(chat_event("two", "stop"))
                await call.done()

        pair.decode.generate = decode
        async with started(pair):
            port = free_port()
            metrics, health = free_port(), free_port()
            given = ["--pd-disaggregation", "--prefill", pair.prefill.url, "1", "--decode", pair.decode.url]
            given += ["--health-check-port", str(health)]
            given += ["--host", "127.0.0.1", "--port", str(port), "--shutdown-grace-period-secs", grace]
            given += ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics), "--log-level", "error"]
            process = router(*given)
            try:
                url = f"http://127.0.0.1:{port}"
                await asyncio.to_thread(wait_for, f"{url}/readiness", process)
                await asyncio.to_thread(wait_for, f"http://127.0.0.1:{metrics}/metrics", process)
                await asyncio.to_thread(wait_for, f"http://127.0.0.1:{health}/readiness", process)
                body = {"model": "fake", "messages": [{"role": "user", "content": "x"}], "stream": True}
                async with (
                    httpx.AsyncClient(timeout=60) as client,
                    client.stream("POST", f"{url}/v1/chat/completions", json=body) as answer,
                ):
                    pieces = answer.aiter_text()
                    text = await anext(pieces)
                    process.send_signal(signal.SIGTERM)
                    await until(lambda: not accepts(port), "the port is closed", 10)
                    release.set() if whole else None
                    try:
                        async for piece in pieces:
                            text += piece
                    except httpx.RemoteProtocolError:
                        assert not whole
                assert ("two" in text, text.endswith("data: [DONE]\n\n")) == (whole, whole)
                code = await asyncio.to_thread(process.wait, 60)
                assert code == 0
                assert bool(pair.decode.aborted) is not whole
            finally:
                process.kill()
                process.communicate()

    run(test)


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_logs_in_a_folder(tmp_path: Path) -> None:
    port = free_port()
    folder = tmp_path / "new" / "logs"
    process = router(*PAIR, "--host", "127.0.0.1", "--port", str(port), "--log-dir", str(folder))
    try:
        wait_for(f"http://127.0.0.1:{port}/liveness", process)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    lines = [orjson.loads(line) for line in (folder / "router.log").read_text().splitlines() if line.startswith("{")]
    assert {"method": "GET", "path": "/liveness", "status": 200}.items() <= lines[-1].items()


def test_the_help_names_every_flag() -> None:
    out, err = router("--help").communicate(timeout=60)
    assert err == ""
    for name in (
        "--retry-max-retries",
        "--cb-failure-threshold",
        "--queue-size",
        "--health-check-endpoint",
        "--policy",
    ):
        assert name in out


def test_no_process_carries_what_no_router_uses() -> None:
    """Each of these is megabytes in each process; who asks uvicorn for its command line still gets it."""
    program = (
        "import sys, router.__main__\n"
        "print({'click', 'multiprocessing', 'pydantic', 'sglang', 'torch', 'watchfiles'} & {*sys.modules})\n"
        "import uvicorn, uvicorn.server\n"
        "assert uvicorn.Server is uvicorn.server.Server and callable(uvicorn.run) and not hasattr(uvicorn, 'walk')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("set()\n", "")
