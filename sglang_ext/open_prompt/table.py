"""The table of open prompts in one scheduler process: token ids, pins and counters."""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sglang_ext.open_prompt.operation import InvalidOperation, Operation
from sglang_ext.open_prompt.pins import Pin, PinnedPrefixes
from sglang_ext.open_prompt.settings import Settings
from sglang_ext.upstream.request import Request

MAX_OPEN_PROMPTS = 4096  # beyond it the oldest is forgotten


@dataclass
class OpenPrompt:
    """One open prompt, kept until its final request has ended.

    Attributes:
        ids: Token ids so far.
        last_used: Seconds, by the table's clock.
        rid: Id of its latest request.
        final: Whether its final request has come.
        pin: What holds its pages in the cache.
    """

    ids: "array[int]"
    last_used: float
    rid: str = ""
    final: bool = False
    pin: Pin | None = None


@dataclass
class Counters:
    """Events since the server started; `/server_info` shows them under these names."""

    segments: int = 0
    segment_tokens: int = 0
    taken_back: int = 0  # tokens that a later request replaced
    finals: int = 0
    closed: int = 0  # without a final request
    expired: int = 0
    refused: int = 0  # invalid operations
    yielded: int = 0  # segments parked that an ordinary request, or its handshake, went before
    held: int = 0  # steps in which segments waited for a pass to end, or for an ordinary request's handshake


@dataclass
class OpenPromptTable:
    """All open prompts of a scheduler. Not thread-safe, as the scheduler is not.

    Attributes:
        max_prompt_tokens: Longest prompt that this server takes.
        pins: What holds the prompts' pages in the cache.
        settings: What the operator set.
        clock: Returns seconds. Only the rank that receives requests acts on it.
    """

    max_prompt_tokens: int
    pins: PinnedPrefixes
    settings: Settings
    clock: Callable[[], float]
    counters: Counters = field(default_factory=Counters)
    open: dict[str, OpenPrompt] = field(default_factory=dict)

    @property
    def any_segment_seen(self) -> bool:
        """Whether a segment has ever come; until then the overlay leaves scheduling to SGLang."""
        return self.counters.segments > 0

    def extend(self, operation: Operation, ids: Sequence[int], rid: str) -> "array[int]":
        """Add the tokens of an append or a final; return the whole prompt so far.

        Raises `InvalidOperation` when the operation does not fit, and then changes nothing.
        """
        prompt = self.open.get(operation.id)
        known = prompt.ids if prompt is not None else array("q")
        self._check(operation, prompt, known, len(ids))
        if prompt is None:
            prompt = self.open[operation.id] = OpenPrompt(known, self.clock())
            if len(self.open) > MAX_OPEN_PROMPTS:
                self.close(next(iter(self.open)))
        self.counters.taken_back += len(known) - operation.at
        prompt.ids = known[: operation.at] + array("q", ids)
        prompt.last_used, prompt.rid = self.clock(), rid
        if operation.op == "final":
            prompt.final = True
            self.counters.finals += 1
        else:
            self.counters.segments += 1
            self.counters.segment_tokens += len(ids)
        return prompt.ids[:]

    def _check(self, operation: Operation, prompt: OpenPrompt | None, known: "array[int]", new_tokens: int) -> None:
        name, at = operation.id, operation.at
        if prompt is None and at > 0:
            raise InvalidOperation(
                f"the open prompt {name} is not known here: it was never begun, has been closed, or was left alone "
                f"for more than {self.settings.ttl:g} s; send it again from its first token, with `at` 0."
            )
        if prompt is not None and prompt.final:
            raise InvalidOperation(f"the open prompt {name} has had its final request; begin a new one.")
        if at > len(known):
            raise InvalidOperation(
                f"the open prompt {name} has {len(known)} tokens here, so `at` cannot be {at}; send it from "
                f"token {len(known)} on, or from an earlier one."
            )
        if not new_tokens:
            raise InvalidOperation(f"the request for the open prompt {name} brings no tokens; send at least one.")
        if at + new_tokens > self.max_prompt_tokens:
            raise InvalidOperation(
                f"the open prompt {name} would have {at + new_tokens} tokens, but this server takes "
                f"{self.max_prompt_tokens}; it stays as it was, with {len(known)}."
            )

    def pin_segment(self, operation: Operation, req: Request) -> None:
        """Pin a segment's prompt once its KV is in the radix cache."""
        prompt = self.open.get(operation.id)
        if prompt is not None and not prompt.final:
            prompt.last_used = self.clock()
            prompt.pin = self.pins.replace(prompt.pin, req)

    def close(self, name: str) -> None:
        """Forget a prompt; does nothing for an unknown id."""
        if name in self.open:
            self.counters.closed += not self.open[name].final
            self._forget(name)

    def _forget(self, name: str) -> None:
        self.pins.release(self.open.pop(name).pin)

    def release_aborted(self, rid: str) -> None:
        """Forget prompts whose final request was aborted; without one of its segments a prompt stays as it is.

        `rid` is the beginning of request ids, as in SGLang's `AbortReq`.
        """
        for name in [name for name, each in self.open.items() if each.final and each.rid.startswith(rid)]:
            self._forget(name)

    def expired_ids(self) -> list[str]:
        """Return the ids of prompts without a request for longer than the time to live; forgets none of them."""
        now = self.clock()
        return [name for name, prompt in self.open.items() if now - prompt.last_used > self.settings.ttl]

    def expire(self, name: str) -> None:
        """Forget an expired prompt."""
        if name in self.open:
            self.counters.expired += 1
            self._forget(name)

    def to_json(self) -> dict[str, Any]:
        """Return what `/server_info` shows."""
        return {
            "open": len(self.open),
            "longest": self.max_prompt_tokens,
            "ttl": self.settings.ttl,
            "chunk": self.settings.segment_chunk,
            **self.pins.to_json(),
            **asdict(self.counters),
        }
