"""The supervisor over processes that answer like servers."""

import asyncio
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from launch.config.loading import first_models, load_config
from launch.config.schema import LaunchConfig, ModelConfig
from launch.errors import LaunchError, ServerDied
from launch.machine.ports import free_ports
from launch.planning.plan import make_plan
from launch.processes import teardown
from launch.processes.base import Process
from launch.processes.spawn import Spawner
from launch.supervision import backoff, readiness, starters, supervisor
from launch.supervision.service import Service
from launch.supervision.supervisor import Supervisor
from router.early_exit.judge_protocol import JUDGE_MODULE
from tests.launch.machines import cpu_machine
from tests.launch.processes.fake_mps import put_on_path
from tests.router.support.aio import until

FAKE_SERVER = "tests.launch.supervision.fake_server"
NAMES = ["smollm2-a-prefill", "smollm2-a-decode", "router"]


class Launched:
    """A supervisor whose changes of state can be waited for."""

    def __init__(self, logs: Path, config: LaunchConfig, *, mps: bool) -> None:
        self.lines: list[str] = []
        self.states: list[tuple[str, str]] = []
        self._last_states: dict[str, str] = {}
        self._changed = asyncio.Event()
        ports = free_ports(start=32000)
        plan = replace(make_plan(config, cpu_machine(20), ports=lambda: next(ports)), mps=mps)
        trees = logs / "trees.json"
        self.supervisor = Supervisor(plan, logs, trees, self.lines.append, fork=False, on_change=self._on_change)

    def _on_change(self) -> None:
        for service in self.supervisor.services.values():
            if self._last_states.get(service.name, "waiting") != service.state:
                self._last_states[service.name] = service.state
                self.states.append((service.name, service.state))
        self._changed.set()

    async def until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not done():
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture(autouse=True)
def _fake_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(starters, "Spawner", lambda *_, **__: Spawner(FAKE_SERVER))
    monkeypatch.setattr(supervisor, "WATCH_SECONDS", 0.01)
    for module in (readiness, teardown):
        monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(backoff, "MIN_BACKOFF_SECONDS", 0.01)


def run(
    logs: Path,
    test: Callable[[Launched], Coroutine[Any, Any, None]],
    *,
    count: int = 1,
    mps: bool = False,
    **changes: object,
) -> Launched:
    config = first_models(load_config(None, device="cpu"), count).model_copy(update=changes)

    async def body() -> Launched:
        launched = Launched(logs, config, mps=mps)
        try:
            await test(launched)
        finally:
            launched.supervisor.skip_grace_period()
            await launched.supervisor.stop()
        return launched

    return asyncio.run(body())


def test_servers_start_before_the_router_and_nothing_stays(tmp_path: Path) -> None:
    pids = []

    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        launched.supervisor.check_alive()
        services = launched.supervisor.services
        assert list(services) == NAMES
        for service in services.values():
            assert service.process is not None
            pids.append(service.process.pid)
            assert service.memory_bytes
            assert service.gpu_bytes is None
            assert service.start_seconds
        await launched.supervisor.measure_memory()
        assert launched.supervisor.peak_memory_bytes > 0

    launched = run(tmp_path, test)
    order = [pair for pair in launched.states if pair[1] in {"starting", "ready"}]
    assert order == [(name, state) for name in NAMES for state in ("starting", "ready")]
    assert {service.state for service in launched.supervisor.services.values()} == {"stopped"}
    assert "POST /generate smollm2-a" in (tmp_path / "router.log").read_text()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_server_that_dies_while_the_router_gets_ready_ends_the_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The router is ready when its servers have answered, so that it would be waited for in vain."""
    monkeypatch.setattr(supervisor, "ROUTER_READY_PATH", "/never")

    async def test(launched: Launched) -> None:
        starting = asyncio.create_task(launched.supervisor.start())
        services = launched.supervisor.services
        await launched.until(lambda: services["router"].state == "starting")
        decode = services["smollm2-a-decode"].process
        assert decode is not None
        os.kill(decode.pid, signal.SIGKILL)
        with pytest.raises(ServerDied, match="smollm2-a-decode was killed by signal 9"):
            await asyncio.wait_for(starting, 60)

    launched = run(tmp_path, test)
    assert ("router", "dead") not in launched.states


@pytest.mark.parametrize("device", ["CPU", "GPU 0"])
def test_the_router_ends_before_its_servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Servers on GPUs are asked to end, too; on a CPU they are killed. Also when the stop itself is cancelled."""
    asked: list[tuple[list[str], list[bool]]] = []

    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        servers = [launched.supervisor.services[name] for name in NAMES[:-1]]

        async def stop_all(processes: list[Process], **_: object) -> None:
            live = [server.process is not None and server.process.exit_code() is None for server in servers]
            asked.append(([process.command.name for process in processes], live))
            if len(asked) == 2:
                raise asyncio.CancelledError

        monkeypatch.setattr(supervisor, "stop_all", stop_all)
        for server in servers:
            server.device = device
        await asyncio.gather(launched.supervisor.stop(), return_exceptions=True)
        assert not any(server.process is not None and server.process.session_processes() for server in servers)

    launched = run(tmp_path, test)
    assert asked[:2] == [(["router"], [True, True]), (NAMES[:-1] if device != "CPU" else [], [True, True])]
    assert launched.lines == []


def mps_folder(service: Service) -> Path | None:
    """Where the daemon is that a running service is a client of."""
    assert service.process is not None
    found = psutil.Process(service.process.pid).environ().get("CUDA_MPS_PIPE_DIRECTORY")
    return None if found is None else Path(found)


def judges(launched: Launched) -> list[int]:
    """The pids of the router's judges."""
    router = launched.supervisor.services["router"].process
    assert router is not None
    children = psutil.Process(router.pid).children()
    return [each.pid for each in children if each.status() != psutil.STATUS_ZOMBIE and JUDGE_MODULE in each.cmdline()]


def kill_daemon(service: Service) -> Path:
    """Kill the daemon of a running service; its folder."""
    folder = mps_folder(service)
    assert folder is not None
    os.kill(int((folder / "control").read_text()), signal.SIGKILL)
    return folder


def is_alive(watched: Supervisor) -> bool:
    try:
        watched.check_alive()
    except ServerDied:
        return False
    return True


def test_servers_and_the_router_with_its_judge_are_clients_of_one_daemon_that_goes_with_the_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path / "bin", monkeypatch)
    folders: list[Path | None] = []

    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        launched.supervisor.check_alive()
        folders.extend(mps_folder(service) for service in launched.supervisor.services.values())

    run(tmp_path, test, mps=True)
    prefill, decode, router = folders
    assert prefill is not None
    assert prefill == decode == router
    assert not prefill.exists()


def test_without_their_daemon_all_servers_are_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the daemon does not start at once."""
    put_on_path(tmp_path / "bin", monkeypatch)

    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        servers = [launched.supervisor.services[name] for name in NAMES[:-1]]
        monkeypatch.setenv("MPS_FAILS", "1")
        old = kill_daemon(servers[0])
        await until(lambda: not is_alive(launched.supervisor), "the daemon's end is seen")
        watch = asyncio.create_task(launched.supervisor.watch())
        failed = "did not start: mps ended with exit code 1"
        await launched.until(lambda: any(failed in line for line in launched.lines))
        monkeypatch.delenv("MPS_FAILS")
        await launched.until(lambda: all(service.restarts and service.state == "ready" for service in servers))
        router = launched.supervisor.services["router"]
        assert mps_folder(servers[0]) == mps_folder(servers[1]) == mps_folder(router) == old
        assert (old / "control").exists()
        assert judges(launched) == [], "it cannot go on either"
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    launched = run(tmp_path, test, mps=True)
    assert any(line.startswith("mps was killed by signal 9") for line in launched.lines)
    for name in NAMES[:-1]:
        assert f"ending {name} too, whose daemon of MPS is gone" in launched.lines


def test_a_router_is_restarted_also_where_the_daemon_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_on_path(tmp_path / "bin", monkeypatch)

    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        router = launched.supervisor.services["router"]
        monkeypatch.setenv("MPS_FAILS", "1")
        kill_daemon(router)
        assert router.process is not None
        os.kill(router.process.pid, signal.SIGKILL)
        watch = asyncio.create_task(launched.supervisor.watch())
        await launched.until(lambda: router.restarts == 1 and router.state == "ready")
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    run(tmp_path, test, mps=True)


def test_a_launch_whose_daemon_does_not_start_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_on_path(tmp_path / "bin", monkeypatch)
    monkeypatch.setenv("MPS_FAILS", "1")

    async def test(launched: Launched) -> None:
        with pytest.raises(ExceptionGroup) as failed:
            await launched.supervisor.start()
        assert "no GPU is there" in str(failed.value.exceptions[0])

    run(tmp_path, test, mps=True)


@pytest.mark.parametrize(("mps", "restarts"), [(True, 1), (False, 0)])
def test_what_shares_a_gpu_by_mps_is_restarted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mps: bool, restarts: int
) -> None:
    """The GPU is made up. Without MPS a decode server does not mind that its prefill server died."""
    put_on_path(tmp_path / "bin", monkeypatch)
    kill, of_routers = supervisor._kill_judges_of, list[int]()

    def noting(router: int) -> None:
        of_routers.append(router)
        kill(router)

    monkeypatch.setattr(supervisor, "_kill_judges_of", noting)

    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        services, servers = launched.supervisor.services, launched.supervisor._servers
        servers.update({name: replace(server, gpus=(0,)) for name, server in servers.items()})
        decode, prefill = services["smollm2-a-decode"], services["smollm2-a-prefill"]
        assert prefill.process is not None
        watch = asyncio.create_task(launched.supervisor.watch())
        os.kill(prefill.process.pid, signal.SIGKILL)
        await launched.until(lambda: prefill.restarts == 1 and prefill.state == "ready")
        await launched.until(lambda: decode.restarts == restarts and decode.state == "ready")
        assert bool(judges(launched)) is not mps
        assert len(of_routers) == mps, "the second server was ended for the first one's sake"
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    launched = run(tmp_path, test, mps=mps)
    ending = "ending smollm2-a-decode too, which shares a GPU with smollm2-a-prefill by MPS"
    assert (ending in launched.lines) == mps


def test_a_killed_server_is_restarted(tmp_path: Path) -> None:
    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        service = launched.supervisor.services["smollm2-a-decode"]
        assert service.process is not None
        watch = asyncio.create_task(launched.supervisor.watch())
        os.kill(service.process.pid, signal.SIGKILL)
        await launched.until(lambda: service.restarts == 1 and service.state == "ready")
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    launched = run(tmp_path, test)
    assert launched.lines[0].startswith("smollm2-a-decode was killed by signal 9")
    assert launched.lines[1] == "restarting smollm2-a-decode in 0.01 s"


@pytest.mark.parametrize(("gpus", "restarts"), [((0,), 1), ((), 0)], ids=["on a GPU", "on a CPU"])
def test_the_prefill_server_of_a_dead_decode_server_is_restarted_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: tuple[int, ...], restarts: int
) -> None:
    """On GPUs only: there it holds the other one's memory. The GPU is made up."""

    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        services, servers = launched.supervisor.services, launched.supervisor._servers
        servers.update({name: replace(server, gpus=gpus) for name, server in servers.items()})
        decode, prefill = services["smollm2-a-decode"], services["smollm2-a-prefill"]
        assert decode.process is not None
        watch = asyncio.create_task(launched.supervisor.watch())
        os.kill(decode.process.pid, signal.SIGKILL)
        await launched.until(lambda: decode.restarts == 1 and decode.state == "ready" and prefill.state == "ready")
        await launched.until(lambda: prefill.restarts == restarts and prefill.state == "ready")
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    launched = run(tmp_path, test)
    ending = "ending smollm2-a-prefill too, which holds the GPU memory of smollm2-a-decode"
    assert (ending in launched.lines) == bool(restarts)


def test_a_server_that_cannot_start_ends_the_launch(tmp_path: Path) -> None:
    async def test(launched: Launched) -> None:
        with pytest.raises(ExceptionGroup) as failed:
            await launched.supervisor.start()
        died = failed.value.exceptions[0]
        assert isinstance(died, ServerDied)
        assert "smollm2-a-prefill ended with exit code 1" in str(died)
        assert str(died).endswith("no such flag")
        with pytest.raises(ServerDied):
            launched.supervisor.check_alive()

    launched = run(tmp_path, test, server_args=["--no-such-flag"])
    assert ("smollm2-a-prefill", "dead") in launched.states


def test_a_server_without_the_overlay_is_refused(tmp_path: Path) -> None:
    async def test(launched: Launched) -> None:
        with pytest.raises(ExceptionGroup) as failed:
            await launched.supervisor.start()
        error = failed.value.exceptions[0]
        assert isinstance(error, LaunchError)
        assert "smollm2-a-prefill runs without the sglang_ext overlay" in str(error)

    run(tmp_path, test, server_args=["--no-overlay"])


PLAIN = [
    ModelConfig(name="one", path="builtin:smollm2", disaggregated=False),
    ModelConfig(name="other", path="builtin:smollm2", engine="vllm", vllm_python="/bin/true"),
]


def test_plain_servers_are_started_asked_and_restarted_as_halves_of_pairs_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = []

    def spawner(module: str, python: str | None = None, *, own_folder: bool = False) -> Spawner:
        programs.append((module, python, own_folder))
        return Spawner(FAKE_SERVER)

    monkeypatch.setattr(starters, "Spawner", spawner)

    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        services = launched.supervisor.services
        assert {name: service.role for name, service in services.items()} == {
            "one-plain": "plain",
            "other-plain": "plain, vLLM",
            "router": "router",
        }
        watch = asyncio.create_task(launched.supervisor.watch())
        kill(launched, "other-plain")
        await launched.until(lambda: services["other-plain"].restarts == 1 and services["other-plain"].state == "ready")
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    run(tmp_path, test, models=PLAIN, count=2)
    assert programs == [
        ("router", None, False),
        ("sglang.launch_server", None, False),
        ("vllm.entrypoints.cli.main", "/bin/true", True),
    ]
    asked = [line for line in (tmp_path / "router.log").read_text().splitlines() if line.startswith("POST")]
    assert asked == ["POST /generate one", "POST /v1/completions other"]


def test_only_sglangs_servers_need_the_overlay(tmp_path: Path) -> None:
    async def test(launched: Launched) -> None:
        with pytest.raises(ExceptionGroup) as failed:
            await launched.supervisor.start()
        assert "one-plain runs without the sglang_ext overlay" in str(failed.value.exceptions[0])
        assert launched.supervisor.services["other-plain"].state == "ready"

    models = [model.model_copy(update={"server_args": ["--no-overlay"]}) for model in reversed(PLAIN)]
    run(tmp_path, test, models=models, count=2)


def kill(launched: Launched, name: str) -> None:
    process = launched.supervisor.services[name].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)


def test_a_server_that_never_comes_up_again_is_given_up_and_the_others_are_watched_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "MAX_BACKOFF_SECONDS", 0.04)
    for module in (backoff, supervisor):
        monkeypatch.setattr(module, "MAX_FAILED_STARTS", 4)

    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        services = launched.supervisor.services
        watch = asyncio.create_task(launched.supervisor.watch())
        kill(launched, "smollm2-a-decode")
        await launched.until(lambda: services["smollm2-a-decode"].restarts == 4)
        await launched.until(lambda: services["smollm2-a-decode"].state == "dead")
        kill(launched, "router")
        await launched.until(lambda: services["router"].restarts == 1 and services["router"].state == "ready")
        assert not watch.done()
        kill(launched, "smollm2-b-decode")
        with pytest.raises(ExceptionGroup) as ended:
            await watch
        assert "smollm2-b-decode is given up after 4 failed starts in a row" in str(ended.value.exceptions[0])

    launched = run(tmp_path, test, count=2, server_args=["--fail-from-second-start", str(tmp_path)])
    delays = [line.split(" in ")[1] for line in launched.lines if line.startswith("restarting smollm2-a-decode in")]
    assert delays == ["0.01 s", "0.02 s", "0.04 s", "0.04 s"]
    log = tmp_path / "smollm2-a-decode.log"
    failed = "smollm2-a-decode did not start: smollm2-a-decode ended: there is no room for the KV pool"
    assert f"{failed}; its log is {log}." in launched.lines
    assert any("smollm2-a-decode is given up" in line and "The other models go on" in line for line in launched.lines)


def test_one_services_error_leaves_the_others_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(launched: Launched) -> None:
        await launched.supervisor.start()
        services = launched.supervisor.services
        failures = iter([LaunchError("runs without the overlay"), OSError("no space is left"), None])

        async def check(origin: object, name: str) -> None:
            if (failure := next(failures)) is not None:
                raise failure

        monkeypatch.setattr(supervisor, "check_overlay", check)
        watch = asyncio.create_task(launched.supervisor.watch())
        kill(launched, "smollm2-a-decode")
        await launched.until(lambda: services["smollm2-a-decode"].restarts == 3 and not watch.done())
        await launched.until(lambda: services["smollm2-a-decode"].state == "ready")
        kill(launched, "router")
        await launched.until(lambda: services["router"].restarts == 1 and services["router"].state == "ready")
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)

    launched = run(tmp_path, test)
    assert "smollm2-a-decode did not start: runs without the overlay" in launched.lines
    assert "smollm2-a-decode did not start: no space is left" in launched.lines


def test_a_start_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "SERVER_START_SECONDS", 0.5)

    async def test(launched: Launched) -> None:
        with pytest.raises(ExceptionGroup) as failed:
            await launched.supervisor.start()
        assert "smollm2-a-prefill was not ready after 0.5 s; the last lines of" in str(failed.value.exceptions[0])

    run(tmp_path, test, server_args=["--never-ready"])
