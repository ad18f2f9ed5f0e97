"""The servers of a plan: started in order, watched, restarted when they die, stopped together."""

import asyncio
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from launch.inventory import Inventory
from launch.plan import Plan, ServerPlan
from launch.processes.base import Command, Process, Starter, proportional_set_size
from launch.processes.spawn import Spawner
from launch.processes.teardown import kill_all, stop_all
from launch.processes.zygote import Zygote
from launch.readiness import ServerDied, check_overlay, died, get_json, wait_until_answers
from router.http_client.origin import Origin

State = Literal["waiting", "starting", "ready", "dead", "stopped"]
MAX_BACKOFF = 60.0
HEALTHY_AFTER = 300.0  # seconds up after which the next restart starts from the shortest backoff
WATCH_SECONDS = 1.0
MEMORY_SECONDS = 2.0
ROUTER = "router"


@dataclass
class Member:
    """One process of a launch and what is known of it. Memory is bytes, times are seconds."""

    name: str
    role: str
    port: int
    where: str
    state: State = "waiting"
    process: Process | None = None
    began: float | None = None
    start_seconds: float | None = None
    ready_at: float | None = None
    memory_bytes: int | None = None
    gpu_bytes: int | None = None
    restarts: int = 0
    origin: Origin = field(init=False)

    def __post_init__(self) -> None:
        self.origin = Origin(f"127.0.0.1:{self.port}")


class Supervisor:
    """Runs a plan. Use: `await start()`, then `await watch()`, and always `await stop()`."""

    def __init__(
        self,
        plan: Plan,
        logs: Path,
        trees: Path,
        say: Callable[[str], None],
        *,
        fork: bool,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self.plan = plan
        self.logs = logs
        self.peak_memory_bytes = 0
        self._trees = trees
        self._say = say
        self._on_change = on_change
        self._servers = {server.name: server for server in plan.servers}
        self.members = {
            server.name: Member(server.name, server.role, server.port, _where(server)) for server in plan.servers
        }
        self.members[ROUTER] = Member(ROUTER, ROUTER, plan.router_port, "CPU")
        env = plan.servers[0].env
        self._starter: Starter = Zygote(env, logs / "zygote.log") if fork else Spawner("sglang.launch_server")
        self._router_starter = Spawner("router")
        self._sampler: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    @property
    def router(self) -> Origin:
        """The router's address."""
        return self.members[ROUTER].origin

    async def start(self) -> None:
        """Bring everything up and send one real generation through each pair.

        Raises:
            ServerDied: A server ended while it started.
            LaunchError: A server runs without the overlay.
        """
        self._sampler = asyncio.create_task(self._sample_memory())
        for wave in self.plan.waves():
            async with asyncio.TaskGroup() as group:
                for server in wave:
                    group.create_task(self._bring_up(self.members[server.name]))
        await self._bring_up(self.members[ROUTER])
        for model in dict.fromkeys(server.model.name for server in self.plan.servers):
            body = {"model": model, "input_ids": [1, 2, 3], "sampling_params": {"max_new_tokens": 1}}
            # The first request of a pair compiles kernels on a GPU.
            await get_json(self.router, "/generate", body, timeout=600.0)

    async def watch(self) -> None:
        """Restart whatever dies, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for member in self.members.values():
                group.create_task(self._keep_up(member))

    def check(self) -> None:
        """Raise `ServerDied` when a process that was started is gone."""
        for member in self.members.values():
            if member.process is not None and (code := member.process.exit_code()) is not None:
                raise died(member.name, code, member.process.command.log)

    def hurry(self) -> None:
        """Let `stop` kill at once what has not ended by itself."""
        self._hurry.set()

    async def stop(self) -> None:
        """End every process; harmless to call twice."""
        if self._sampler is not None:
            self._sampler.cancel()
            await asyncio.gather(self._sampler, return_exceptions=True)
        members = [(member.process, member.state) for member in self.members.values() if member.process is not None]
        await kill_all([process for process, state in members if state != "ready"])
        await stop_all([process for process, state in members if state == "ready"], hurry=self._hurry)
        await self._starter.close()
        for member in self.members.values():
            member.origin.close()
            self._set(member, "stopped")

    async def _bring_up(self, member: Member) -> None:
        gpu_before = _gpu_used(self._servers.get(member.name))
        member.began = time.monotonic()
        self._set(member, "starting")
        starter = self._router_starter if member.name == ROUTER else self._starter
        member.process = process = await starter.start(self._command(member))

        def check() -> None:
            if (code := process.exit_code()) is not None:
                raise died(member.name, code, process.command.log)

        try:
            if member.name == ROUTER:
                await wait_until_answers(member.origin, "/readiness", check)
            else:
                await wait_until_answers(member.origin, "/model_info", check)
                await check_overlay(member.origin, member.name)
        except ServerDied:
            self._set(member, "dead")
            raise
        member.ready_at = time.monotonic()
        member.start_seconds = member.ready_at - member.began
        member.memory_bytes = process.memory_bytes()
        process.note_shared_memory()
        gpu_after = _gpu_used(self._servers.get(member.name))
        member.gpu_bytes = None if gpu_after is None or gpu_before is None else gpu_after - gpu_before
        self._set(member, "ready")

    def _command(self, member: Member) -> Command:
        log = self.logs / f"{member.name}.log"
        if member.name != ROUTER:
            server = self._servers[member.name]
            return Command(member.name, server.argv, server.env, log)
        argv = ["--pd-disaggregation", "--host", "127.0.0.1", "--port", str(member.port), "--trees", str(self._trees)]
        argv += ["--worker-probe-interval", "2"]
        for server in self.plan.servers:
            url = self.members[server.name].origin.url
            if server.role == "prefill":
                argv += ["--prefill", url, str(server.bootstrap_port)]
            else:
                argv += ["--decode", url]
        return Command(ROUTER, (*argv, *self.plan.router_args), {}, log)

    async def _keep_up(self, member: Member) -> None:
        backoff = 1.0
        while True:
            process = member.process
            assert process is not None
            while (code := process.exit_code()) is None:  # noqa: ASYNC110 - the end of a process is no event here
                await asyncio.sleep(WATCH_SECONDS)
            self._set(member, "dead")
            self._say(str(died(member.name, code, process.command.log)))
            if member.ready_at is not None and time.monotonic() - member.ready_at > HEALTHY_AFTER:
                backoff = 1.0
            # Its children must be gone before its ports can be taken again.
            await kill_all([process])
            self._say(f"restarting {member.name} in {backoff:g} s")
            await asyncio.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF)
            member.restarts += 1
            try:
                await self._bring_up(member)
            except ServerDied:
                continue
            self._say(f"{member.name} is ready again")

    async def measure_memory(self) -> None:
        """Update `peak_memory_bytes` with what all processes use now."""
        processes = [member.process for member in self.members.values() if member.process is not None]
        used = await asyncio.to_thread(lambda: sum(process.memory_bytes() for process in processes))
        used += self._starter.memory_bytes() + proportional_set_size(os.getpid())
        self.peak_memory_bytes = max(self.peak_memory_bytes, used)

    async def _sample_memory(self) -> None:
        while True:
            await self.measure_memory()
            await asyncio.sleep(MEMORY_SECONDS)

    def _set(self, member: Member, state: State) -> None:
        member.state = state
        self._on_change()


def _where(server: ServerPlan) -> str:
    return "GPU " + ",".join(map(str, server.gpus)) if server.gpus else "CPU"


def _gpu_used(server: ServerPlan | None) -> int | None:
    """Bytes in use on the GPUs of a server; None on a CPU."""
    if server is None or not server.gpus:
        return None
    gpus = {gpu.index: gpu for gpu in Inventory.detect().gpus}
    return sum(gpus[index].total_bytes - gpus[index].free_bytes for index in server.gpus if index in gpus)
