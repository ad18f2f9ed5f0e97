"""What the processes of one router tell each other of their choices: requests in flight, and prompts sent where.

With it policies that weigh loads or remember prompts choose in several processes nearly as one would. It is told in
datagrams over Unix sockets, a few milliseconds late. One that is lost costs a cache hit or an even load, no request:
a process whose socket is full is not waited for, and once a second each process tells the whole of its loads.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from router.load_balancing import Policy, PromptKind, PromptPrefix
from router.workers.registry import Registry
from router.workers.worker import Role, Worker

logger = logging.getLogger(__name__)

TELL_INTERVAL = 0.005  # seconds between two messages of a busy process
WHOLE_INTERVAL = 1.0  # seconds between two messages with all loads
SILENT_AFTER = 3.5  # seconds without a message after which a process counts as dead, with all its requests
MAX_PROMPT_BYTES = 131_072  # of one prompt; of a longer one the beginning is told
MAX_MESSAGE_BYTES = 196_608  # below the usual limit of a datagram, 212,992
MESSAGE_OVERHEAD = 64  # bytes of an entry beside its text
MESSAGES_AT_ONCE = 32  # read before other work gets its turn

Load = tuple[str, int, int]  # worker, requests in flight, tokens that their clients expect
Prompt = tuple[str, PromptKind, bytes]  # worker, kind, text


class Message(msgspec.Struct, array_like=True):
    """What one process tells the others.

    Attributes:
        sender: Its number.
        whole: Whether workers that `loads` leaves out have none of its requests.
        loads: What it has in flight, by worker.
        prompts: Prompts that it has sent to workers since its last message.
    """

    sender: int
    whole: bool
    loads: list[Load]
    prompts: list[Prompt]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class SharedChoices:
    """Tells the other processes what this one sends to workers, and hears it from them.

    Args:
        index: The number of this process.
        paths: The private socket of each process, by index; the datagrams' are beside them.
        registry: The workers.
        policies: What chooses among them, by role.

    Attributes:
        told: Messages sent to one process each.
        lost: Messages that could not be sent.
        heard: Messages that came.
    """

    def __init__(self, index: int, paths: Sequence[Path], registry: Registry, policies: Mapping[Role, Policy]) -> None:
        self._index = index
        self._path = _beside(paths[index])
        self._others = [str(_beside(path)) for other, path in enumerate(paths) if other != index]
        self._registry = registry
        self._policies = policies
        self._socket: socket.socket | None = None
        self._buffer = memoryview(bytearray(2 * MAX_MESSAGE_BYTES))
        self._told_loads: dict[str, tuple[int, int]] = {}
        self._loads_of: dict[int, dict[str, tuple[int, int]]] = {}
        self._heard_at: dict[int, float] = {}
        self._prompts: list[Prompt] = []
        self._prompt_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self.told = self.lost = self.heard = 0

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
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_MESSAGE_BYTES)
        self._socket = own
        asyncio.get_running_loop().add_reader(own, self._hear)
        for policy in self._policies.values():
            policy.announce = self._announce
        self._task = asyncio.create_task(self._tell_all_for_ever())

    async def close(self) -> None:
        """Tell and hear no more."""
        if self._socket is None or self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        for policy in self._policies.values():
            policy.announce = None
        for worker in self._workers():
            worker.load.on_begin = None
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._socket = None
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _workers(self) -> Iterator[Worker]:
        """All workers, and the ranks of each."""
        for worker in self._registry.workers:
            yield worker
            yield from worker.ranks

    def _announce(self, worker: Worker, prompt: PromptPrefix) -> None:
        """A policy has sent a prompt to a worker."""
        text = prompt.chars.encode("utf-8", "surrogatepass")
        if len(text) > MAX_PROMPT_BYTES:
            text = prompt.chars[: MAX_PROMPT_BYTES // 4].encode("utf-8", "surrogatepass")
        size = len(text) + MESSAGE_OVERHEAD
        if self._prompt_bytes + size > MAX_MESSAGE_BYTES - self._room_for_loads():
            self._tell()
        self._prompts.append((_name(worker), prompt.kind, text))
        self._prompt_bytes += size
        self._tell_soon()

    def _room_for_loads(self) -> int:
        """Bytes that the loads of a message may take."""
        return min(MAX_MESSAGE_BYTES // 4, MESSAGE_OVERHEAD * sum(1 for _ in self._workers()))

    def _tell_soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TELL_INTERVAL, self._tell)

    def _tell(self) -> None:
        """Tell what changed since the last message; goes on by itself while requests are in flight."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        changed: list[Load] = []
        busy = False
        for worker in self._workers():
            load = worker.load
            now = load.requests, load.expected_tokens
            busy = busy or load.requests > 0
            name = _name(worker)
            if self._told_loads.get(name, (0, 0)) != now:
                self._told_loads[name] = now
                changed.append((name, *now))
        if changed or self._prompts:
            self._send(whole=False, loads=changed)
        if busy:
            self._tell_soon()

    def _send(self, *, whole: bool, loads: list[Load]) -> None:
        prompts, self._prompts, self._prompt_bytes = self._prompts, [], 0
        message = _encode(Message(self._index, whole, loads, prompts))
        assert self._socket is not None
        for other in self._others:
            try:
                self._socket.sendto(message, other)
                self.told += 1
            except OSError:  # its queue is full, or it is being started
                self.lost += 1

    async def _tell_all_for_ever(self) -> None:
        while True:
            try:
                self._tell_all()
                self._forget_silent(time.monotonic())
            except Exception:  # an unexpected error must not end it
                logger.exception("unexpected error while telling other processes of the requests in flight")
            await asyncio.sleep(WHOLE_INTERVAL)

    def _tell_all(self) -> None:
        loads: list[Load] = []
        for worker in self._workers():
            worker.load.on_begin = self._tell_soon
            if worker.load.requests or worker.load.expected_tokens:
                loads.append((_name(worker), worker.load.requests, worker.load.expected_tokens))
        self._told_loads = {name: (requests, tokens) for name, requests, tokens in loads}
        self._send(whole=True, loads=loads)

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
                self._take_over(_decode(self._buffer[:size]))
            except msgspec.DecodeError:
                logger.exception("a message of another process cannot be read")

    def _take_over(self, message: Message) -> None:
        self.heard += 1
        self._heard_at[message.sender] = time.monotonic()
        by_name = {_name(worker): worker for worker in self._workers()}
        for name, kind, text in message.prompts:
            worker = by_name.get(name)
            if worker is not None:
                prompt = PromptPrefix(text.decode("utf-8", "surrogatepass"), kind)
                self._policies[worker.role].placed_elsewhere(worker, prompt)
        loads = {name: (requests, tokens) for name, requests, tokens in message.loads}
        of_sender = loads if message.whole else self._loads_of.get(message.sender, {}) | loads
        self._loads_of[message.sender] = of_sender
        self._weigh(by_name.values() if message.whole else [by_name[name] for name in loads if name in by_name])

    def _weigh(self, workers: Iterable[Worker]) -> None:
        """Set what workers have in flight of all other processes."""
        for worker in workers:
            name = _name(worker)
            told = [loads[name] for loads in self._loads_of.values() if name in loads]
            worker.load.elsewhere = sum(requests for requests, _ in told)
            worker.load.tokens_elsewhere = sum(tokens for _, tokens in told)

    def _forget_silent(self, now: float) -> None:
        """Count the requests of a process no more that was not heard for long."""
        silent = [sender for sender, at in self._heard_at.items() if now - at > SILENT_AFTER]
        for sender in silent:
            del self._heard_at[sender], self._loads_of[sender]
        if silent:
            self._weigh(self._workers())


def _name(worker: Worker) -> str:
    """What all processes call a worker, or one of its ranks."""
    return worker.id if worker.rank is None else f"{worker.id}@{worker.rank}"


def _beside(path: Path) -> Path:
    """The datagrams' socket of the process with this private socket."""
    return path.with_name(f"{path.name}d")
