"""The supervisor of a plan's services: started in waves, watched, restarted when they die, stopped together."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from launch.errors import ServerDied
from launch.machine.gpus import process_bytes
from launch.planning.plan import Plan, ServerPlan
from launch.planning.router_flags import router_argv
from launch.processes.base import Command, Process, proportional_set_size
from launch.processes.exit_error import exit_error, raise_if_exited, start_timeout
from launch.processes.mps import MpsDaemon
from launch.processes.teardown import kill_all, stop_all
from launch.supervision.backoff import MAX_FAILED_STARTS, Backoff
from launch.supervision.readiness import check_overlay, wait_until_ready
from launch.supervision.server_client import get_json
from launch.supervision.service import ROUTER, Service, State, router_service, server_service
from launch.supervision.starters import starters_of
from router.early_exit.judge_protocol import JUDGE_MODULE
from router.http_client.origin import Origin

WATCH_SECONDS = 1.0
MEMORY_SAMPLE_SECONDS = 2.0
SETTLED_SAMPLE_SECONDS = 30.0  # a look walks the page tables of all servers, and takes a tenth of a core every 2 s
SERVER_START_SECONDS = 3600.0
"""Until a server answers; it may have to download its weights first."""
ROUTER_START_SECONDS = 1800.0
"""Until the router is ready: its first generations may compile kernels on servers that have just started."""
ROUTER_READY_PATH = "/readiness"
ROUTER_ALIVE_PATH = "/liveness"
WARM_UP_TIMEOUT_SECONDS = 600.0
"""The first request to a model compiles kernels on a GPU."""


class Supervisor:
    """Runs a plan. Use: `await start()`, then `await watch()`, and always `await stop()`."""

    def __init__(
        self,
        plan: Plan,
        logs: Path,
        trees_file: Path,
        print_line: Callable[[str], None],
        *,
        fork: bool,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan = plan
        self.logs = logs
        self.peak_memory_bytes = 0
        self._print_line = print_line
        self._on_change = on_change
        self._servers = {server.name: server for server in plan.servers}
        self.services = {server.name: server_service(server) for server in plan.servers}
        self.services[ROUTER] = router_service(plan.router_port)
        self._commands = {
            server.name: Command(server.name, server.argv, server.env, logs / f"{server.name}.log")
            for server in plan.servers
        }
        self._commands[ROUTER] = Command(ROUTER, router_argv(plan, trees_file), {}, logs / f"{ROUTER}.log")
        self._starters = starters_of(plan, logs / "zygote.log", fork=fork)
        self._mps = MpsDaemon(logs / "mps") if plan.mps else None
        self._memory_sampler: asyncio.Task[None] | None = None
        self._kill_now = asyncio.Event()

    @property
    def router(self) -> Origin:
        """The router's address."""
        return self.services[ROUTER].origin

    async def start(self) -> None:
        """Start everything and send one real generation to each model.

        Raises:
            ServerDied: A server, or the daemon of MPS, ended while it started or did not come up in time.
            LaunchError: An SGLang server runs without the overlay.
        """
        self._memory_sampler = asyncio.create_task(self._sample_memory())
        for wave in self.plan.waves():
            async with asyncio.TaskGroup() as group:
                for server in wave:
                    group.create_task(self._start_service(self.services[server.name], server.program.ready_path))
        # Its readiness waits for the servers, so that it never comes when one has died.
        await self._start_service(self.services[ROUTER], ROUTER_READY_PATH, self.check_alive)
        for server in {server.model.name: server for server in self.plan.servers}.values():
            path, body = _first_request(server)
            await get_json(self.router, path, body, timeout=WARM_UP_TIMEOUT_SECONDS)

    async def watch(self) -> None:
        """Restart whatever dies, until cancelled.

        Raises:
            ServerDied: The router, or the last model, was given up after too many failed starts.
        """
        async with asyncio.TaskGroup() as group:
            for service in self.services.values():
                group.create_task(self._keep_running(service))
            if self._mps is not None:
                group.create_task(self._watch_mps(self._mps))

    def check_alive(self) -> None:
        """Raise `ServerDied` when a process that was started has ended."""
        if self._mps is not None and (error := self._mps.error()) is not None:
            raise error
        for service in self.services.values():
            if service.process is not None:
                raise_if_exited(service.process)

    def skip_grace_period(self) -> None:
        """Let `stop` kill at once what has not ended by itself."""
        self._kill_now.set()

    async def stop(self) -> None:
        """End every process, the router first, so that its requests end; harmless to call twice."""
        if self._memory_sampler is not None:
            self._memory_sampler.cancel()
            await asyncio.gather(self._memory_sampler, return_exceptions=True)
        try:
            await self._stop_gracefully()
        finally:
            try:
                await kill_all([service.process for service in self.services.values() if service.process is not None])
                await asyncio.gather(*(starter.close() for starter in dict.fromkeys(self._starters.values())))
            finally:
                if self._mps is not None:
                    await self._mps.stop()
        for service in self.services.values():
            service.origin.close()
            self._set_state(service, "stopped")

    async def _stop_gracefully(self) -> None:
        """Let the router end its requests, and then servers on GPUs release their memory.

        Nobody asks the servers any more. SGLang takes five to ten seconds to see that, and on a CPU has nothing to do.
        """
        ready = [
            service for service in self.services.values() if service.process is not None and service.state == "ready"
        ]
        on_gpus = [service for service in ready if service.device != "CPU"]
        for services in ([service for service in ready if service.name == ROUTER], on_gpus):
            processes = [service.process for service in services if service.process is not None]
            await stop_all(processes, kill_now=self._kill_now)

    async def measure_memory(self) -> None:
        """Update `peak_memory_bytes` with what all processes use now."""
        processes = [service.process for service in self.services.values() if service.process is not None]
        used = await asyncio.to_thread(lambda: sum(process.memory_bytes() for process in processes))
        used += sum(starter.memory_bytes() for starter in dict.fromkeys(self._starters.values()))
        used += proportional_set_size(os.getpid())
        self.peak_memory_bytes = max(self.peak_memory_bytes, used)

    async def _start_service(
        self, service: Service, path: str, check_others: Callable[[], None] = lambda: None
    ) -> None:
        """Start a service and wait until it answers a GET of `path`; what `check_others` raises ends the wait."""
        self._set_state(service, "starting")
        service.ready_at = None
        server = self._servers.get(service.name)
        command = self._commands[service.name]
        if self._mps is not None:
            if server is not None:
                await self._ensure_mps(self._mps)
            # The router has them too, for its judge, but needs no daemon: without one, CUDA does without.
            command = replace(command, env=command.env | self._mps.env)
        service.started_at = time.monotonic()
        starter = self._starters[service.name]
        service.process = process = await starter.start(command)
        seconds = ROUTER_START_SECONDS if service.name == ROUTER else SERVER_START_SECONDS

        def check() -> None:
            raise_if_exited(process)
            check_others()

        try:
            await wait_until_ready(service.origin, path, check, seconds=seconds)
            if server is not None and server.program.has_overlay:
                await check_overlay(service.origin, service.name)
        except ServerDied:
            if process.exit_code() is not None:
                self._set_state(service, "dead")
            raise
        except TimeoutError:
            raise start_timeout(process.command, seconds) from None
        service.ready_at = time.monotonic()
        service.start_seconds = service.ready_at - service.started_at
        service.memory_bytes = process.memory_bytes()
        process.record_shared_memory()
        if server is not None and server.gpus:
            pids = [each.pid for each in process.session_processes()]
            service.gpu_bytes = await asyncio.to_thread(process_bytes, server.gpus, pids)
        self._set_state(service, "ready")

    async def _keep_running(self, service: Service) -> None:
        """Start a service again whenever it dies, until it is given up."""
        backoff = Backoff()
        while True:
            process = service.process
            assert process is not None
            while (exit_code := process.exit_code()) is None:  # noqa: ASYNC110 - no event tells the end of a process
                await asyncio.sleep(WATCH_SECONDS)
            was_ended = service.state == "dead"  # by `_end`, for another one that died
            self._set_state(service, "dead")
            self._print_line(str(exit_error(process.command, exit_code)))
            # Its children must be gone before its ports can be taken again.
            await kill_all([process])
            await self._end_affected(service)
            if self._mps is not None and service.name in self._servers and not was_ended:
                await self._end_judge()
            delay = backoff.next_delay(None if service.ready_at is None else time.monotonic() - service.ready_at)
            if not await self._restart(service, backoff, delay):
                self._give_up(service, process)
                return

    async def _ensure_mps(self, daemon: MpsDaemon) -> None:
        """Start the daemon of MPS unless it runs; the clients of one that has died are ended."""
        if await daemon.ensure_running():
            await self._end_mps_clients()

    async def _end_mps_clients(self) -> None:
        await self._end(self._server_services(), "whose daemon of MPS is gone")
        await self._end_judge()

    async def _watch_mps(self, daemon: MpsDaemon) -> None:
        """End the servers when the daemon dies, since they cannot go on; the first that starts again starts it too."""
        known = False
        while True:
            error = daemon.error()
            if error is not None and not known:
                self._print_line(str(error))
                await self._end_mps_clients()
            known = error is not None
            await asyncio.sleep(WATCH_SECONDS)

    async def _end_affected(self, service: Service) -> None:
        """End the servers that cannot go on when a server has died; they are then restarted too.

        UCX maps a decode server's KV pool into its prefill server, and unmaps it only when that process ends (UCX's
        issue 11753). Until then the memory is not free, and the decode server could not start again.

        With MPS the servers on a GPU share one context. After an error in it no server can start there before all of
        them have ended.
        """
        dead = self._servers.get(service.name)
        if dead is None or not dead.gpus:
            return
        for server in self._servers.values():
            affected = [self.services[server.name]]
            if dead.role == "decode" and server.role == "prefill" and server.model.name == dead.model.name:
                await self._end(affected, f"which holds the GPU memory of {service.name}")
            elif self._mps is not None and not {*server.gpus}.isdisjoint(dead.gpus):
                await self._end(affected, f"which shares a GPU with {service.name} by MPS")

    async def _end_judge(self) -> None:
        """Kill the router's judge, which shares the servers' context by MPS; the router starts another one.

        By itself an idle judge does not notice that its GPU is lost, and no server could start there.
        """
        router = self.services[ROUTER].process
        if router is not None and router.exit_code() is None:
            await asyncio.to_thread(_kill_judges_of, router.pid)

    async def _end(self, services: Sequence[Service], why: str) -> None:
        """End services that are ready; whoever watches them starts them again."""
        for service in services:
            if service.state == "ready" and service.process is not None:
                self._print_line(f"ending {service.name} too, {why}")
                self._set_state(service, "dead")
                await kill_all([service.process])

    def _server_services(self) -> list[Service]:
        return [self.services[name] for name in self._servers]

    async def _restart(self, service: Service, backoff: Backoff, delay: float | None) -> bool:
        """Start a service after each delay until it is ready; False when the backoff has no delay left."""
        while delay is not None:
            self._print_line(f"restarting {service.name} in {delay:g} s")
            await asyncio.sleep(delay)
            service.restarts += 1
            try:
                # A router must not wait for servers that are down.
                server = self._servers.get(service.name)
                await self._start_service(service, ROUTER_ALIVE_PATH if server is None else server.program.ready_path)
            except Exception as error:  # whatever it is, the other services are to be watched on
                self._set_state(service, "dead")
                self._print_line(f"{service.name} did not start: {error or type(error).__name__}")
                if service.process is not None:
                    await kill_all([service.process])
                delay = backoff.next_delay(None)
            else:
                self._print_line(f"{service.name} is ready again")
                return True
        return False

    def _give_up(self, service: Service, process: Process) -> None:
        """Say so; raise `ServerDied` when nothing is left that could answer a request."""
        service.given_up = True
        sentence = (
            f"{service.name} is given up after {MAX_FAILED_STARTS} failed starts in a row; see {process.command.log}, "
            "and start the launcher again once the cause is gone."
        )
        broken = {server.model.name for server in self.plan.servers if self.services[server.name].given_up}
        if service.name == ROUTER or broken == {server.model.name for server in self.plan.servers}:
            raise ServerDied(sentence)
        self._print_line(f"{sentence} The other models go on.")

    async def _sample_memory(self) -> None:
        while True:
            await self.measure_memory()
            settled = all(service.state == "ready" for service in self.services.values())
            await asyncio.sleep(SETTLED_SAMPLE_SECONDS if settled else MEMORY_SAMPLE_SECONDS)

    def _set_state(self, service: Service, state: State) -> None:
        service.state = state
        self._on_change()


def _kill_judges_of(router: int) -> None:
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(router).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if JUDGE_MODULE in child.cmdline():
                    child.kill()


def _first_request(server: ServerPlan) -> tuple[str, dict[str, Any]]:
    """Path and body of one generation of one token by a server's model, which may have no tokenizer."""
    body: dict[str, Any] = {"model": server.model.name}
    if server.model.engine == "vllm":
        return "/v1/completions", body | {"prompt": [1, 2, 3], "max_tokens": 1}
    return "/generate", body | {"input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 1}}
