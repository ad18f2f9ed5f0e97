"""What the processes of one router tell each other of their choices: requests in flight, and prompts sent where.

With it policies that weigh loads or remember prompts choose in several processes nearly as one would. It is told in
datagrams over Unix sockets, a few milliseconds late. No request waits for it: for a process whose queue is full, or
that is being started, the prompts of late are kept and told later, and once a second each process tells all its loads.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from router.load_balancing import Policy, PromptPolicy, PromptPrefix
from router.server.processes.choice_messages import Load, Message, Prompt, Recipient, decode, shortened
from router.workers.registry import Registry
from router.workers.worker import Role, Worker
from router.workers.worker_load import WorkerLoad

logger = logging.getLogger(__name__)

TELL_INTERVAL = 0.005  # seconds between two messages of a busy process to one other; with more others longer
WHOLE_INTERVAL = 1.0  # seconds between two messages with all loads
SILENT_AFTER = 3.5  # seconds without a message after which a process counts as dead, with all its requests
BUFFER_BYTES = 262_144  # above every message
MESSAGES_AT_ONCE = 32  # read before other work gets its turn


class SharedChoices:
    """Tells the other processes what this one sends to workers, and hears it from them.

    Args:
        index: The number of this process.
        paths: The private socket of each process, by index; the datagrams' are beside them.
        registry: The workers.
        policies: What chooses among them, by role.

    Attributes:
        heard: Messages that came.
    """

    def __init__(self, index: int, paths: Sequence[Path], registry: Registry, policies: Mapping[Role, Policy]) -> None:
        self._index = index
        self._path = _beside(paths[index])
        self._others = [Recipient(_beside(path)) for other, path in enumerate(paths) if other != index]
        self._interval = TELL_INTERVAL * max(1, len(self._others))
        self._registry = registry
        self._policies = {role: policy for role, policy in policies.items() if isinstance(policy, PromptPolicy)}
        self._socket: socket.socket | None = None
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._workers: dict[str, Worker] = {}
        self._chosen_among: set[str] = set()  # workers beside which there are others of their model and role
        self._busy: dict[str, WorkerLoad] = {}  # that may have requests of this process
        self._told_loads: list[Load] = []
        self._loads_of: dict[int, dict[str, tuple[int, int]]] = {}
        self._heard_at: dict[int, float] = {}
        self._prompts: list[Prompt] = []
        self._last_prompt: PromptPrefix | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.heard = 0

    @property
    def told(self) -> int:
        """Messages that went to one process each."""
        return sum(other.told for other in self._others)

    @property
    def dropped(self) -> int:
        """Prompts that a process did not hear of, since it was away or behind for long."""
        return sum(other.dropped for other in self._others)

    def start(self) -> None:
        """Open the socket, and begin to tell and to hear; says in the log where that cannot be."""
        own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        own.setblocking(False)
        try:
            self._path.unlink(missing_ok=True)  # of a process that died
            own.bind(str(self._path))
        except OSError as error:
            own.close()
            reason = error.strerror or error
            logger.warning("%s cannot be opened (%s): this process weighs its own requests only.", self._path, reason)
            return
        self._socket = own
        asyncio.get_running_loop().add_reader(own, self._hear)
        for policy in self._policies.values():
            policy.announce = self._announce
        self._tell_all()
        self._task = asyncio.create_task(self._tell_all_for_ever())

    async def close(self) -> None:
        """Tell that nothing is in flight any more; then tell and hear nothing."""
        if self._socket is None or self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        for policy in self._policies.values():
            policy.announce = None
        for worker in self._workers.values():
            worker.load.on_begin = None
        for other in self._others:
            other.tell(Message(self._index, True, [], []))
            other.close()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _announce(self, worker: Worker, prompt: PromptPrefix) -> None:
        """A policy has sent a prompt to a worker."""
        name = _name(worker)
        if name not in self._chosen_among:
            return
        if prompt is self._last_prompt:  # its prefill server came before its decode server
            self._prompts[-1][0].append(name)
        else:
            self._prompts.append(([name], prompt.kind, shortened(prompt.chars)))
        self._last_prompt = prompt
        self._tell_soon()

    def _began(self, name: str, load: WorkerLoad) -> None:
        """A request is sent to a worker."""
        self._busy[name] = load
        self._tell_soon()

    def _tell_soon(self) -> None:
        if self._timer is None and self._socket is not None:
            self._timer = asyncio.get_running_loop().call_later(self._interval, self._tell)

    def _tell(self, *, anyway: bool = False) -> None:
        """Tell the loads and prompts, if there is news or `anyway`; goes on by itself while requests are in flight.

        Of workers that policies do not choose among all is told once a second.
        """
        self._timer = None
        self._busy = {name: load for name, load in self._busy.items() if load.requests or load.expected_tokens}
        loads = [(name, load.requests, load.expected_tokens) for name, load in self._busy.items()]
        if anyway or loads != self._told_loads or self._prompts or any(other.behind for other in self._others):
            self._send(loads)
        if not self._chosen_among.isdisjoint(self._busy):
            self._tell_soon()

    def _send(self, loads: list[Load]) -> None:
        """Send all loads, and the prompts that wait, to each other process."""
        message = Message(self._index, True, loads, self._prompts)
        self._told_loads, self._prompts, self._last_prompt = loads, [], None
        for other in self._others:
            other.tell(message)

    async def _tell_all_for_ever(self) -> None:
        while True:
            await asyncio.sleep(WHOLE_INTERVAL)
            try:
                self._tell_all()
                self._forget_silent(time.monotonic())
            except Exception:  # an unexpected error must not end it
                logger.exception("unexpected error while telling other processes of the requests in flight")

    def _tell_all(self) -> None:
        """Look for workers that came and went, and tell all loads whether or not there is news."""
        self._workers = {_name(each): each for worker in self._registry.workers for each in (worker, *worker.ranks)}
        self._chosen_among = _with_others(self._registry.workers)
        self._busy = {name: worker.load for name, worker in self._workers.items()}
        for name, load in self._busy.items():
            load.on_begin = partial(self._began, name, load) if name in self._chosen_among else None
        if self._timer is not None:
            self._timer.cancel()
        self._tell(anyway=True)

    def _hear(self) -> None:
        """Read what came."""
        for _ in range(MESSAGES_AT_ONCE):
            if self._socket is None:
                return
            try:
                size = self._socket.recv_into(self._buffer)
            except OSError:  # nothing more
                return
            try:
                self._take_over(decode(self._buffer[:size]))
            except msgspec.DecodeError:
                logger.exception("a message of another process cannot be read")

    def _take_over(self, message: Message) -> None:
        self.heard += 1
        self._heard_at[message.sender] = time.monotonic()
        loads = {name: (requests, tokens) for name, requests, tokens in message.loads}
        before = self._loads_of.get(message.sender, {})
        self._loads_of[message.sender] = loads if message.whole else before | loads
        self._weigh(before.keys() | loads.keys())
        for names, kind, text in message.prompts:
            prompt = PromptPrefix(text.decode("utf-8", "surrogatepass"), kind)
            for name in names:
                if (worker := self._workers.get(name)) is not None and worker.role in self._policies:
                    self._policies[worker.role].placed_elsewhere(worker, prompt)

    def _weigh(self, names: Iterable[str]) -> None:
        """Set what workers have in flight of all other processes."""
        for name in names:
            if (worker := self._workers.get(name)) is not None:
                told = [loads[name] for loads in self._loads_of.values() if name in loads]
                worker.load.elsewhere = sum(requests for requests, _ in told)
                worker.load.tokens_elsewhere = sum(tokens for _, tokens in told)

    def _forget_silent(self, now: float) -> None:
        """Count the requests of a process no more that was not heard for long."""
        silent = [sender for sender, at in self._heard_at.items() if now - at > SILENT_AFTER]
        for sender in silent:
            del self._heard_at[sender]
            self._loads_of.pop(sender, None)
        if silent:
            self._weigh(self._workers)


def _with_others(workers: Iterable[Worker]) -> set[str]:
    """The names of destinations, and their servers, beside which there is another one of their role and model."""
    groups: dict[tuple[Role, str], list[Worker]] = {}
    for worker in workers:
        for model in worker.models or ("",):
            groups.setdefault((worker.role, model), []).extend(worker.destinations)
    return {
        _name(named)
        for group in groups.values()
        if len(group) > 1
        for worker in group
        for named in (worker, worker.server)
    }


def _name(worker: Worker) -> str:
    """What all processes call a worker, or one of its ranks."""
    return worker.id if worker.rank is None else f"{worker.id}@{worker.rank}"


def _beside(path: Path) -> Path:
    """The datagrams' socket of the process with this private socket."""
    return path.with_name(f"{path.name}d")
