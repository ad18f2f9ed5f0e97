"""Several processes on one port, over fake pairs in this process (fakes: so that it is known what each worker got)."""

import asyncio
import errno
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.cli.parser import parse
from router.moa.settings import RunSettings
from router.server.admission import AdmissionSettings
from router.server.processes.default_count import MAX_DEFAULT_PROCESSES, available_cores
from router.server.processes.limit_shares import process_share
from router.server.processes.merged_responses import merge_metrics, merge_runs, merge_workers
from router.server.processes.peers import Peers
from router.server.processes.process_manager import ProcessIdentity, ProcessManager, run_in_child
from router.server.settings import RouterSettings, ServerSettings
from tests.router.cli.test_main import PAIR, accepts
from tests.router.moa.test_tree_runs import Agents
from tests.router.support.aio import aio, run, until
from tests.router.support.fakes import FakePair, started
from tests.router.support.keys import bearer, with_keys
from tests.router.support.processes import free_port, router

pytestmark = pytest.mark.servers  # routers of several processes

CHAT = "/v1/chat/completions"
COUNT = 3


@dataclass
class Many:
    """A running router of several processes, and its command."""

    url: str
    port: int
    command: "subprocess.Popen[str]"

    def processes(self) -> list[psutil.Process]:
        """Those that serve."""
        return psutil.Process(self.command.pid).children()

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """On a connection of its own, so that any process may get it."""
        async with httpx.AsyncClient(base_url=self.url, timeout=60, trust_env=False) as http:
            return await http.request(method, path, json=body)

    async def ask_often(self, path: str, times: int = 12) -> list[Any]:
        """JSON answers of that many connections."""
        return [answer.json() for answer in await asyncio.gather(*(self.ask("GET", path) for _ in range(times)))]

    async def ready(self) -> None:
        async with asyncio.timeout(60):
            while True:
                try:
                    if (await self.ask("GET", "/readiness")).status_code == 200:
                        return
                except httpx.TransportError:
                    assert self.command.poll() is None
                await asyncio.sleep(0.05)


@asynccontextmanager
async def many(*pairs: FakePair, flags: tuple[str, ...] = ()) -> AsyncIterator[Many]:
    async with started(*pairs):
        port = free_port()
        given_pairs = ["--pd-disaggregation"]
        for pair in pairs:
            given_pairs += ["--prefill", pair.prefill.url, "1", "--decode", pair.decode.url]
        given_pairs += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "error"]
        command = router(*given_pairs, "--workers", str(COUNT), *flags)
        served = Many(f"http://127.0.0.1:{port}", port, command)
        try:
            await served.ready()
            yield served
            command.send_signal(signal.SIGTERM)
            out, err = await asyncio.to_thread(command.communicate, None, 60)
            assert (command.returncode, out) == (0, "")
            assert not [line for line in err.splitlines() if "process 0 ended" not in line], err
            assert not accepts(port)
        finally:
            command.kill()
            command.communicate()


@aio
async def test_requests_are_shared_and_counted_together() -> None:
    pair = FakePair()
    async with many(pair) as served:
        assert len(served.processes()) == COUNT
        body = {"text": "x", "sampling_params": {"max_new_tokens": 2}}
        warm_ups = len(pair.decode.requests)
        assert warm_ups == COUNT, "each process generates once"
        answers = await asyncio.gather(*(served.ask("POST", "/generate", body) for _ in range(40)))
        assert {answer.status_code for answer in answers} == {200}
        assert len({call.connection for call in pair.decode.requests[warm_ups:]}) > 1
        counted = 'smg_http_requests_total{method="POST",path="/generate"} 40.0'
        for _ in range(1000):  # a request counts once its answer is over
            if counted in (await served.ask("GET", "/metrics")).text:
                break
            await asyncio.sleep(0.02)
        for _ in range(3):
            text = (await served.ask("GET", "/metrics")).text
            assert counted in text
            assert text.count("# TYPE smg_http_requests_total counter") == 1
            assert f'smg_worker_health{{worker="{pair.decode.url}"}} 1.0' in text
        assert (await served.ask("GET", "/internal/changes")).status_code == 404


@aio
async def test_prompts_stay_with_their_servers_whichever_process_has_the_connection() -> None:
    pairs = FakePair(), FakePair()
    async with many(*pairs) as served:
        before = [len(server.requests) for pair in pairs for server in (pair.prefill, pair.decode)]
        prompts = [f"{letter} " * 200 for letter in "abcd"]
        for _ in range(4):
            for prompt in prompts:
                body = {"text": prompt, "sampling_params": {"max_new_tokens": 2}}
                assert (await served.ask("POST", "/generate", body)).is_success
                await asyncio.sleep(0.1)  # longer than a message takes
        servers = [server for pair in pairs for server in (pair.prefill, pair.decode)]
        got = [{call.json["text"] for call in server.requests[n:]} for server, n in zip(servers, before, strict=True)]
        assert not got[0] & got[2], "no prompt was prefilled on two servers"
        assert not got[1] & got[3]
        assert all(got), "and both have some"
        text = (await served.ask("GET", "/metrics")).text
        received = text.partition('moa_process_messages_total{direction="received"} ')[2].split()[0]
        assert float(received) >= 16 * (COUNT - 1)


@aio
async def test_the_agents_of_a_run_meet_in_one_process() -> None:
    """Each on a connection of its own; the reader comes first."""
    agents = Agents()
    async with many(agents.pair) as served:

        async def play(number: int) -> None:
            def asked(role: str, said: str, **more: Any) -> dict[str, Any]:
                messages = [{"role": "system", "content": role}, {"role": "user", "content": said}]
                return {"run": f"run-{number}", "messages": messages, **more}

            reader = asyncio.create_task(
                served.ask("POST", CHAT, asked("reader", "Read: <|answer:a|>, <|answer:b|>.", agent="top"))
            )
            for name in ("b", "a"):
                assert (await served.ask("POST", CHAT, asked(name, "Speak.", agent=name))).status_code == 200
            answer = await reader
            assert answer.json()["choices"][0]["message"]["content"] == "says reader, done"
            for trace in await served.ask_often(f"/runs/run-{number}", 6):
                assert {each["agent"] for each in trace["agents"]} == {"top", "b", "a"}
                assert trace["state"] == "done"

        await asyncio.gather(*(play(number) for number in range(6)))
        prompts = [Agents.prompt(call) for call in agents.pair.decode.requests if Agents.name(call) == "reader"]
        assert sum("Read: says a, done, says b, done." in prompt for prompt in prompts) == 6
        for told in await served.ask_often("/runs", 6):
            assert {each["run"] for each in told["runs"]} == {f"run-{number}" for number in range(6)}
        assert (await served.ask("GET", "/runs/run-none")).status_code == 404
        streamed = await served.ask("POST", CHAT, {"run": "s", "agent": "x", "stream": True, "messages": [
            {"role": "system", "content": "x"}, {"role": "user", "content": "Speak."}]})  # fmt: skip
        assert streamed.text.endswith("data: [DONE]\n\n")
        assert streamed.headers["content-type"].startswith("text/event-stream")


@aio
async def test_a_run_of_a_tree_is_found_from_everywhere() -> None:
    agents = Agents()
    async with many(agents.pair, flags=("--trees", "single")) as served:
        body = {"model": "moa", "messages": [{"role": "user", "content": "Why?"}]}
        told = (await served.ask("POST", CHAT, body)).json()
        number = told["moa"]["run"]
        for trace in await served.ask_often(f"/runs/{number}"):
            assert trace["run"] == number
        page = await served.ask("GET", f"/runs/{number}/timeline")
        assert page.headers["content-security-policy"]
        assert number in page.text


@aio
async def test_a_client_that_leaves_is_noticed_by_the_process_that_has_the_run() -> None:
    agents = Agents()
    asked = asyncio.Event()

    async def hang(call: Any) -> None:
        asked.set()
        await call.gone()

    agents.answer["slow"] = hang
    async with many(agents.pair) as served:
        for number in range(4):
            asked.clear()
            body = {"run": f"left-{number}", "agent": "x", "messages": [{"role": "system", "content": "slow"}]}
            request = asyncio.create_task(served.ask("POST", CHAT, body))
            await asked.wait()
            request.cancel()
            await until(lambda n=number: len(agents.pair.decode.aborted) == n + 1, "it is aborted")  # type: ignore[misc]


@aio
async def test_workers_come_and_go_everywhere_also_for_a_process_that_died() -> None:
    first, second = FakePair(), FakePair()
    async with started(second), many(first) as served:
        for role, worker, port in (("prefill", second.prefill, 1), ("decode", second.decode, None)):
            body = {"url": worker.url, "worker_type": role, "bootstrap_port": port}
            answer = await served.ask("POST", "/workers", body)
            assert answer.status_code == 202
            assert answer.headers["location"] == f"/workers/{answer.json()['worker_id']}"
            assert (await served.ask("POST", "/workers", body)).status_code == 409
        assert (await served.ask("POST", "/workers", {"url": "no address"})).status_code == 400

        async def all_have(*workers: str, times: int = 12) -> None:
            for told in await served.ask_often("/workers", times):
                assert {each["url"] for each in told["workers"]} == set(workers)

        both = [each.url for pair in (first, second) for each in (pair.prefill, pair.decode)]
        await all_have(*both)
        await served.ready()
        victim = min(served.processes(), key=lambda each: each.pid)  # process 0
        victim.kill()
        await until(lambda: len(served.processes()) == COUNT and victim not in served.processes(), "it is back", 5)
        await all_have(*both, times=24)
        number = next(
            each["id"]
            for each in (await served.ask("GET", "/workers")).json()["workers"]
            if each["url"] == second.decode.url
        )
        assert (await served.ask("DELETE", f"/workers/{number}")).status_code == 202
        async with asyncio.timeout(60):
            while any(len(told["workers"]) == len(both) for told in await served.ask_often("/workers")):
                pass
        await all_have(*(url for url in both if url != second.decode.url))
        assert (await served.ask("GET", f"/workers/{number}")).status_code == 404


@aio
async def test_a_process_that_is_started_again_has_the_keys_of_the_others(tmp_path: Path) -> None:
    """Even if the file has changed or is gone: which keys count does not depend on who is asked."""
    path = with_keys(tmp_path, {"boss": ["admin"]}).api_keys_file
    assert path is not None
    async with many(FakePair(), flags=("--api-keys-file", str(path))) as served:
        path.unlink()
        victim = min(served.processes(), key=lambda each: each.pid)  # process 0
        victim.kill()
        await until(lambda: len(served.processes()) == COUNT and victim not in served.processes(), "it is back", 5)
        async with asyncio.timeout(120):
            for _ in range(24):
                async with httpx.AsyncClient(base_url=served.url, timeout=60, trust_env=False) as http:
                    assert (await http.get("/get_loads", headers=bearer("boss"))).status_code == 200
                    assert (await http.get("/get_loads", headers=bearer("other"))).status_code == 401


def test_a_process_that_was_stopped_follows_the_others(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it answers nothing the router is not ready; it learns of a new worker when it goes on."""
    folder = tmp_path_factory.mktemp("s")
    monkeypatch.setenv("TMPDIR", str(folder))

    async def workers_of(socket_path: Path) -> set[str]:
        """The workers that one process knows."""
        transport = httpx.AsyncHTTPTransport(uds=str(socket_path))
        async with httpx.AsyncClient(transport=transport, timeout=60, trust_env=False) as http:
            return {each["url"] for each in (await http.get("http://router/workers")).json()["workers"]}

    async def test() -> None:
        first, second = FakePair(), FakePair()
        async with started(second), many(first) as served:
            sockets = [*folder.glob("router-*/?")]
            assert len(sockets) == COUNT
            stopped = served.processes()[1]
            stopped.suspend()
            try:
                body = {"url": second.decode.url, "worker_type": "decode"}
                adding = await first_answers(lambda: served.ask("POST", "/workers", body))
                ready = await first_answers(lambda: served.ask("GET", "/readiness"))
            finally:
                stopped.resume()
            assert adding.status_code in (202, 409)  # the first answer may be to the second request
            assert ready.status_code == 503
            assert "of the router does not answer" in ready.json()["error"]["message"]
            expected = {first.prefill.url, first.decode.url, second.decode.url}
            async with asyncio.timeout(60):
                for each in sockets:
                    while await workers_of(each) != expected:
                        pass
            await served.ready()

    run(test)


async def first_answers(ask: Callable[[], Coroutine[Any, Any, httpx.Response]]) -> httpx.Response:
    """The first answer on one of many connections, of which a stopped process has some."""
    tasks = [asyncio.create_task(ask()) for _ in range(12)]
    try:
        for answer in asyncio.as_completed(tasks):
            return await answer
        raise AssertionError
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_its_parent(how: signal.Signals) -> None:
    async def test() -> None:
        port = free_port()
        command = router(*PAIR, "--port", str(port), "--workers", "2", "--log-level", "error")
        try:
            await until(lambda: len(psutil.Process(command.pid).children()) == 2, "they have begun", 10)
            children = psutil.Process(command.pid).children()
            await asyncio.sleep(0.5)
            os.kill(command.pid, how)
            await until(lambda: not any(each.is_running() for each in children), "they have ended", 10)
            await asyncio.to_thread(command.wait, 60)
            assert not accepts(port)
        finally:
            command.kill()
            command.communicate()

    run(test)


def test_a_process_that_cannot_be_started_is_tried_again() -> None:
    """As when memory is short, of which the last one may have died; the others serve on."""

    def serve(place: ProcessIdentity, listeners: list[socket.socket]) -> int:
        if not place.restarted:
            return 1
        os.kill(os.getppid(), signal.SIGTERM)
        return 0

    def supervise() -> int:
        forks, fork = count(), os.fork

        def fails_once() -> int:
            if next(forks) == 1:
                raise OSError(errno.ENOMEM, "Cannot allocate memory")
            return fork()

        os.fork = fails_once
        return ProcessManager(ServerSettings(host="127.0.0.1", port=0), 1, serve).run()

    assert run_in_child(supervise) == 0


def test_what_is_wrong_is_said_once(tmp_path: Path) -> None:
    trees = tmp_path / "trees.yaml"
    trees.write_text("trees: 5")
    for flags, words in (
        (["--trees", str(trees)], f"router: the trees file {trees} is wrong at trees: "),
        (["--max-concurrent-requests", "1"], "python -m router: error: --max-concurrent-requests 1 leaves nothing"),
        (["--workers", "-1"], "python -m router: error: --workers -1 is out of bounds"),
    ):
        command = router(*PAIR, "--workers", "2", *flags)
        out, err = command.communicate(timeout=60)
        assert (command.returncode, out) == (2, "")
        assert err.splitlines()[-1].startswith(words)
        assert not err.startswith("router:") or len(err.splitlines()) == 1


def test_a_folder_with_too_long_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    _, err = router(*PAIR, "--port", str(free_port()), "--workers", "2").communicate(timeout=60)
    assert err.startswith(f"router: TMPDIR names no folder for sockets: cannot listen on {folder}/router-")
    assert err.endswith("/0 (AF_UNIX path too long); choose another.\n")
    assert not list(folder.iterdir())


def test_by_itself_a_router_has_one_process_where_processes_have_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    process = _serving(free_port())
    assert not psutil.Process(process.pid).children()
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert "TMPDIR names no folder for sockets: cannot listen on" in err
    assert "so there is one process alone." in err


def test_by_itself_a_router_has_several_processes() -> None:
    count = min(available_cores(), MAX_DEFAULT_PROCESSES)
    port = free_port()
    process = _serving(port)
    try:
        while not httpx.get(f"http://127.0.0.1:{port}/liveness", timeout=60).is_success:
            assert process.poll() is None
        assert len(psutil.Process(process.pid).children()) == (count if count > 1 else 0)
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _serving(port: int) -> "subprocess.Popen[str]":
    process = router(*PAIR, "--policy", "round_robin", "--port", str(port), "--log-level", "warn")
    while not accepts(port):
        assert process.poll() is None
    return process


def test_a_second_router_on_the_port_is_refused() -> None:
    port = str(free_port())
    first = router(*PAIR, "--port", port, "--workers", "2", "--log-level", "error")
    try:
        while not accepts(int(port)):
            assert first.poll() is None
        for more in ([], ["--workers", "2"]):
            _, err = router(*PAIR, "--port", port, *more).communicate(timeout=60)
            assert err == f"router: cannot listen on 0.0.0.0:{port} (Address already in use); choose another.\n"
    finally:
        first.terminate()
        first.communicate(timeout=60)


@given(st.integers(1, 7), st.integers(7, 500), st.integers(0, 500), st.none() | st.floats(0.1, 100))
def test_shares_add_up(count: int, most: int, queue: int, rate: float | None) -> None:
    limits = AdmissionSettings(max_concurrent=most, queue_size=queue, rate=rate)
    runs, server = RunSettings(total=most, per_client=most), ServerSettings(workers=count)
    settings = RouterSettings(prefill=(), decode=(), limits=limits, runs=runs, server=server)
    shares = [process_share(settings, index, count) for index in range(count)]
    assert sum(each.limits.max_concurrent for each in shares) == most
    assert sum(each.limits.queue_size for each in shares) == queue
    assert sum(each.runs.total for each in shares) == sum(each.runs.per_client for each in shares) == most
    assert max(each.limits.max_concurrent for each in shares) - min(each.limits.max_concurrent for each in shares) <= 1
    if rate is not None:
        assert sum(each.limits.rate or 0 for each in shares) == pytest.approx(rate)


def test_no_limit_stays_none() -> None:
    assert process_share(parse([*PAIR, "--workers", "4"]), 1, 4).limits == AdmissionSettings(
        queue_size=25, queue_bytes=64 << 20, body_bytes=256 << 20
    )


def test_limits_that_are_not_given_are_not_shared_where_the_number_of_processes_is_not_given_either() -> None:
    settings = parse([*PAIR, "--policy", "random"])
    assert process_share(settings, 0, 2) == settings


@given(st.text(), st.integers(1, 9))
def test_a_run_belongs_to_one_process(name: str, count: int) -> None:
    paths = [Path(str(index)) for index in range(count)]
    peers = [Peers(index, paths) for index in range(count)]
    assert len({each.owner(name) for each in peers}) == 1
    assert 0 <= peers[0].owner(name) < count
    for each in peers:
        assert each.owner(each.new_run()) == each.index


def test_metrics_are_merged_by_their_meaning() -> None:
    def text(requests: int, health: int, breaker: int, active: int) -> bytes:
        return (
            "# HELP smg_http_requests_total Requests\n# TYPE smg_http_requests_total counter\n"
            f'smg_http_requests_total{{method="POST",path="/generate"}} {requests}.0\n'
            "# HELP smg_worker_health Well\n# TYPE smg_worker_health gauge\n"
            f'smg_worker_health{{worker="w"}} {health}.0\n'
            "# HELP smg_worker_cb_state State\n# TYPE smg_worker_cb_state gauge\n"
            f'smg_worker_cb_state{{worker="w"}} {breaker}.0\n'
            "# HELP smg_worker_requests_active Load\n# TYPE smg_worker_requests_active gauge\n"
            f'smg_worker_requests_active{{worker="w"}} {active}.0\n'
            "# HELP took Seconds\n# TYPE took histogram\n"
            f'took_bucket{{le="1.0"}} {requests}.0\ntook_bucket{{le="+Inf"}} {requests}.0\n'
            f"took_count {requests}.0\ntook_sum {active}.5\n"
        ).encode()

    merged = merge_metrics([text(3, 1, 0, 2), text(4, 0, 1, 5)]).decode()
    wanted = text(7, 0, 1, 7).decode().replace("took_sum 7.5", "took_sum 8.0")
    assert sorted(merged.splitlines()) == sorted(wanted.splitlines())
    assert merge_metrics([text(3, 1, 0, 2)]).decode().count("# TYPE") == 5


def test_workers_and_runs_are_merged() -> None:
    def told(load: int, healthy: bool, breaker: str) -> dict[str, Any]:
        worker = {"id": "w", "load": load, "healthy": healthy, "is_healthy": healthy, "generated": healthy}
        worker |= {"role": "decode", "breaker": breaker, "problem": None if healthy else "it is away."}
        return {"workers": [worker], "pairs": [{"prefill": "p", "decode": "d", "model": "m", "generated": healthy}]}

    merged = merge_workers([told(2, True, "closed"), told(3, False, "half_open")])
    (worker,) = merged["workers"]
    assert (worker["load"], worker["healthy"], worker["breaker"]) == (5, False, "half_open")
    assert worker["problem"] == "it is away."
    assert merged["pairs"][0]["generated"] is False
    runs = [{"runs": [{"run": "a", "created": 3.0}]}, {"runs": [{"run": "b", "created": 5.0}]}]
    assert [each["run"] for each in merge_runs(runs)["runs"]] == ["b", "a"]
