"""How segments and final requests reach a pair: two ways with one interface.

`OverlayTransport` speaks to servers that run this project's overlay: they keep the prompt's ids, so only new ones
travel, and a segment generates nothing. `FallbackTransport` speaks to any SGLang pair with both radix caches on:
each request brings the whole prompt, and a segment generates one token that nobody reads.
"""

import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from router.workers.worker import Pair

TransportMode = Literal["overlay", "fallback"]


class SegmentTransport(Protocol):
    """Bodies for `/generate` of one open prompt; `at` tokens of its front are on both servers already."""

    mode: TransportMode

    def segment(self, ids: Sequence[int], at: int) -> dict[str, Any]:
        """A request that prefills the prompt so far."""

    def final(self, body: dict[str, Any], ids: Sequence[int], at: int) -> dict[str, Any]:
        """The request `body`, which has sampling parameters, with its prompt."""

    def close(self) -> dict[str, Any] | None:
        """A request that ends the prompt without a final one; None when the servers hold nothing."""

    def arrived(self) -> None:
        """Called when the servers have answered a segment."""


class FallbackTransport:
    """Ordinary requests."""

    mode: TransportMode = "fallback"

    def segment(self, ids: Sequence[int], at: int) -> dict[str, Any]:
        """The prompt so far, for one token."""
        return {"input_ids": list(ids), "sampling_params": {"max_new_tokens": 1, "temperature": 0.0}}

    def final(self, body: dict[str, Any], ids: Sequence[int], at: int) -> dict[str, Any]:
        """The whole prompt."""
        return {**body, "input_ids": list(ids)}

    def close(self) -> None:
        """Nothing: what the servers have is ordinary cache."""

    def arrived(self) -> None:
        """Nothing changes."""


class OverlayTransport:
    """Requests marked for `sglang_ext.open_prompt`.

    Args:
        ttl: Seconds for which the servers keep a prompt that nothing is heard of.
    """

    mode: TransportMode = "overlay"

    def __init__(self, ttl: float) -> None:
        self.id = uuid.uuid4().hex
        self._ttl = ttl
        self._sent = False
        self._heard: float | None = None

    def segment(self, ids: Sequence[int], at: int) -> dict[str, Any]:
        """The tokens from `at` on."""
        self._sent = True
        return self._marked("append", {"sampling_params": {"max_new_tokens": 0}}, ids, at)

    def final(self, body: dict[str, Any], ids: Sequence[int], at: int) -> dict[str, Any]:
        """The tokens from `at` on; without a segment before it, an ordinary request."""
        if not self._sent:
            return {**body, "input_ids": list(ids)}
        return self._marked("final", body, ids, at)

    def close(self) -> dict[str, Any] | None:
        """Forget the id."""
        if not self._sent:
            return None
        return self._marked("close", {"sampling_params": {"max_new_tokens": 0}}, (0,), 0)

    def arrived(self) -> None:
        """The servers' clocks begin anew."""
        self._heard = time.monotonic()

    def _marked(self, op: str, body: dict[str, Any], ids: Sequence[int], at: int) -> dict[str, Any]:
        if self._heard is None or time.monotonic() - self._heard > self._ttl / 2:
            at = 0  # they may not know the prompt any more
        at = min(at, len(ids) - 1)  # no request may be empty
        sampling = body["sampling_params"]
        custom = {**(sampling.get("custom_params") or {}), "open_prompt": {"id": self.id, "op": op, "at": at}}
        return {**body, "input_ids": list(ids[at:]), "sampling_params": {**sampling, "custom_params": custom}}


def transport_for(pair: Pair) -> SegmentTransport:
    """The best way that both servers of a pair know."""
    told = [worker.open_prompts for worker in (pair.prefill, pair.decode)]
    if not all(told):
        return FallbackTransport()
    return OverlayTransport(min(each["ttl"] for each in told if each))
