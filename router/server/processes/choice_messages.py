"""The messages in which processes of a router tell each other of their choices, and how one is sent."""

import socket
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import msgspec

from router.load_balancing import PromptKind

# Together below the usual limit of a datagram, 212,992 bytes.
MAX_PROMPT_BYTES = 131_072  # of the prompts of a message, and of each: of a longer one the beginning is told
MAX_PROMPTS = 200
MAX_LOADS = 1_000
MAX_WAITING_BYTES = 1_048_576  # of the prompts that are kept for a process that takes no message now
PROMPT_OVERHEAD = 256  # bytes that one takes there beside its text

Load = tuple[str, int, int]  # worker, requests in flight, tokens that their clients expect
Prompt = tuple[list[str], PromptKind, bytes]  # workers, kind, text


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
decode = msgspec.msgpack.Decoder(Message).decode


class Recipient:
    """Another process, as the one that tells it sees it; it has a socket of its own, so that none waits for another.

    Args:
        path: Where it listens.

    Attributes:
        behind: Whether the last message could not be sent.
        told: Messages that it got.
        dropped: Prompts that it will not hear of.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._socket: socket.socket | None = None
        self._waiting: deque[Prompt] = deque()
        self._waiting_bytes = 0
        self.behind = False
        self.told = self.dropped = 0

    def tell(self, message: Message) -> None:
        """Send a message in as many as it takes. Prompts that cannot be sent now go with the next one."""
        self._wait(message.prompts)
        whole = message.whole
        for start in range(0, max(1, len(message.loads)), MAX_LOADS):
            loads = message.loads[start : start + MAX_LOADS]
            self.behind = not self._send(Message(message.sender, whole, loads, self._next()))
            if self.behind:
                return
            whole = False
        while self._waiting and not self.behind:
            self.behind = not self._send(Message(message.sender, False, [], self._next()))

    def close(self) -> None:
        """Tell it no more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _wait(self, prompts: Iterable[Prompt]) -> None:
        for prompt in prompts:
            self._waiting.append(prompt)
            self._waiting_bytes += len(prompt[2]) + PROMPT_OVERHEAD
        while self._waiting_bytes > MAX_WAITING_BYTES:
            self._forget_oldest()
            self.dropped += 1

    def _forget_oldest(self) -> None:
        self._waiting_bytes -= len(self._waiting.popleft()[2]) + PROMPT_OVERHEAD

    def _next(self) -> list[Prompt]:
        """The oldest prompts that wait, as many as a message takes."""
        found: list[Prompt] = []
        room = MAX_PROMPT_BYTES
        for prompt in self._waiting:
            room -= len(prompt[2])
            if len(found) == MAX_PROMPTS or (room < 0 and found):
                break
            found.append(prompt)
        return found

    def _send(self, message: Message) -> bool:
        """Send one message, with prompts that wait; whether that could be."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        try:
            self._socket.sendto(_encode(message), self._path)
        except OSError:  # its queue is full, or it is being started
            return False
        for _ in message.prompts:
            self._forget_oldest()
        self.told += 1
        return True


def shortened(chars: str) -> bytes:
    """A prompt in UTF-8, of a long one its beginning."""
    text = chars.encode("utf-8", "surrogatepass")
    length = len(chars) * MAX_PROMPT_BYTES // max(1, len(text))
    while len(text) > MAX_PROMPT_BYTES:
        text = chars[:length].encode("utf-8", "surrogatepass")
        length //= 2
    return text
