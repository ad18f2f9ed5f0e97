"""The open prompts of one scheduler process: their token ids, what is pinned of them, and counters."""

import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sglang_ext.errors import BadSetting
from sglang_ext.open_prompt.pins import Pin, Pins
from sglang_ext.open_prompt.protocol import Mark, Refused

MOST = 4096  # open prompts; beyond it the oldest is forgotten
CALM = 64  # batches of segments, some 2 s of a GPU's time when they follow each other


def wanted() -> bool:
    """Whether servers shall have open prompts; SGLANG_EXT_OPEN_PROMPTS=0 leaves SGLang's scheduling untouched."""
    return os.environ.get("SGLANG_EXT_OPEN_PROMPTS", "1") != "0"


@dataclass(frozen=True)
class Limits:
    """What an operator may set, as environment variables."""

    fraction: float = 0.3  # SGLANG_EXT_OPEN_PROMPT_KV_FRACTION: of the KV pool, for pinned pages
    ttl: float = 60.0  # SGLANG_EXT_OPEN_PROMPT_TTL: seconds without a request of the prompt
    chunk: int = 512  # SGLANG_EXT_SEGMENT_CHUNK: tokens of a batch of segments, at most

    @classmethod
    def from_environment(cls) -> "Limits":
        """Raises `BadSetting` when a variable does not fit."""
        fraction = _number(
            "SGLANG_EXT_OPEN_PROMPT_KV_FRACTION", cls.fraction, lambda x: 0 <= x < 1, "from 0 to below 1"
        )
        ttl = _number("SGLANG_EXT_OPEN_PROMPT_TTL", cls.ttl, lambda x: x > 0, "of seconds above 0")
        chunk = _number("SGLANG_EXT_SEGMENT_CHUNK", cls.chunk, lambda x: x >= 1, "of tokens from 1 up")
        return cls(fraction, ttl, int(chunk))


def _number(name: str, default: float, fits: Callable[[float], bool], wanted: str) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = float("nan")
    if not fits(value):
        raise BadSetting(f"{name} is {text!r}, but must be a number {wanted}.")
    return value


@dataclass
class OpenPrompt:
    """One prompt whose end is not known yet, or whose final request is still under way."""

    ids: "array[int]"
    touched: float
    rid: str = ""  # of its latest request
    final: bool = False
    pin: Pin | None = None


@dataclass
class Counters:
    """Since the server started."""

    segments: int = 0
    segment_tokens: int = 0
    taken_back: int = 0  # tokens
    finals: int = 0
    closed: int = 0  # without a final request
    expired: int = 0
    refused: int = 0
    yielded: int = 0  # chunks of segments that made way for ordinary requests
    held: int = 0  # steps in which segments waited for a pass to end, or for an ordinary request's handshake


@dataclass
class Prompts:
    """All open prompts here; not thread-safe, as the scheduler is not.

    Attributes:
        longest: Tokens that this server takes in a prompt.
        pins: What holds their pages.
        limits: What the operator set.
        waited: Steps in a row in which segments left handshakes their time.
        calm: Batches of segments since a request of no open prompt last waited, from `CALM` on all the same.
        clock: Seconds; asked on every rank, but only the receiving rank acts on it.
    """

    longest: int
    pins: Pins
    limits: Limits
    clock: Callable[[], float]
    counters: Counters = field(default_factory=Counters)
    open: dict[str, OpenPrompt] = field(default_factory=dict)
    waited: int = 0
    calm: int = CALM

    @property
    def chunk(self) -> int:
        """Tokens of the next batch of segments: half of what is allowed until `CALM` went by without other requests.

        Small batches take longer in all, but who comes during one waits less, and is joined by fewer others: those that
        wait become one batch, and each of them gets its token only at its end.
        """
        return self.limits.chunk if self.calm >= CALM else -(-self.limits.chunk // 2)

    def extend(self, mark: Mark, ids: Sequence[int], rid: str) -> "array[int]":
        """Take an append's or a final's tokens; returns the whole prompt so far.

        Raises:
            Refused: The request does not fit; nothing has changed.
        """
        prompt = self.open.get(mark.id)
        if prompt is None and mark.at > 0:
            raise Refused(
                f"the open prompt {mark.id} is not known here: it was never begun, has been closed, or was left alone "
                f"for more than {self.limits.ttl:g} s; send it again from its first token, with `at` 0."
            )
        if prompt is not None and prompt.final:
            raise Refused(f"the open prompt {mark.id} has had its final request; begin a new one.")
        known = prompt.ids if prompt is not None else array("q")
        if mark.at > len(known):
            raise Refused(
                f"the open prompt {mark.id} has {len(known)} tokens here, so `at` cannot be {mark.at}; send it from "
                f"token {len(known)} on, or from an earlier one."
            )
        total = mark.at + len(ids)
        if not ids:
            raise Refused(f"the request for the open prompt {mark.id} brings no tokens; send at least one.")
        if total > self.longest:
            raise Refused(
                f"the open prompt {mark.id} would have {total} tokens, but this server takes {self.longest}; it stays "
                f"as it was, with {len(known)}."
            )
        if prompt is None:
            prompt = self.open[mark.id] = OpenPrompt(known, self.clock())
            if len(self.open) > MOST:
                self.close(next(iter(self.open)))
        self.counters.taken_back += len(known) - mark.at
        prompt.ids = known[: mark.at] + array("q", ids)
        prompt.touched, prompt.rid = self.clock(), rid
        if mark.op == "final":
            prompt.final = True
            self.counters.finals += 1
        else:
            self.counters.segments += 1
            self.counters.segment_tokens += len(ids)
        return prompt.ids[:]

    def ready(self, mark: Mark, req: Any) -> None:
        """A segment's KV is in the radix cache: hold it there."""
        prompt = self.open.get(mark.id)
        if prompt is not None and not prompt.final:
            prompt.touched = self.clock()
            prompt.pin = self.pins.move(prompt.pin, req)

    def close(self, name: str) -> None:
        """Forget a prompt; unknown ids are fine."""
        if name in self.open:
            self.counters.closed += not self.open[name].final
            self._forget(name)

    def _forget(self, name: str) -> None:
        self.pins.release(self.open.pop(name).pin)

    def ended(self, rid: str) -> None:
        """A request was aborted. With its final request a prompt is over; without a segment it stays as it is."""
        for name in [name for name, each in self.open.items() if each.final and each.rid.startswith(rid)]:
            self._forget(name)

    def expired(self) -> list[str]:
        """Prompts left alone for too long; the caller has them expired on every rank before it asks again."""
        now = self.clock()
        return [name for name, prompt in self.open.items() if now - prompt.touched > self.limits.ttl]

    def expire(self, name: str) -> None:
        """Forget a prompt whose time to live is over."""
        if name in self.open:
            self.counters.expired += 1
            self._forget(name)

    @property
    def used(self) -> bool:
        """Whether any segment ever came: servers that see none pay nothing."""
        return self.counters.segments > 0

    def to_json(self) -> dict[str, Any]:
        """As `/server_info` shows it."""
        return {
            "open": len(self.open),
            "longest": self.longest,
            "ttl": self.limits.ttl,
            "chunk": self.limits.chunk,
            **self.pins.to_json(),
            **asdict(self.counters),
        }
