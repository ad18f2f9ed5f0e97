"""How the segments and the final request of an open prompt reach a pair.

`OverlayTransport` is for servers with this project's overlay: they keep the prompt's token ids, so only new ones are
sent, and a segment generates nothing. `FallbackTransport` is for any SGLang pair with both radix caches on: each
request has the whole prompt, and a segment generates one token that nobody reads.
"""

import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal, Protocol

from router.workers.worker import Pair

TransportMode = Literal["overlay", "fallback"]


class SegmentTransport(Protocol):
    """Makes the `/generate` bodies of one open prompt. The first `prefilled` tokens are on both servers already."""

    mode: TransportMode

    def segment(self, ids: Sequence[int], prefilled: int) -> dict[str, Any]:
        """A request that prefills the prompt so far."""

    def final(self, body: dict[str, Any], ids: Sequence[int], prefilled: int) -> dict[str, Any]:
        """The final request: `body`, which has sampling parameters, with the prompt added."""

    def close(self) -> dict[str, Any] | None:
        """A request that gives the prompt up without a final request; None when the servers hold nothing."""

    def segment_done(self) -> None:
        """Called when both servers have answered a segment."""


class FallbackTransport:
    """Segments as ordinary requests."""

    mode: TransportMode = "fallback"

    def segment(self, ids: Sequence[int], prefilled: int) -> dict[str, Any]:
        """The whole prompt so far, to generate one token."""
        return {"input_ids": list(ids), "sampling_params": {"max_new_tokens": 1, "temperature": 0.0}}

    def final(self, body: dict[str, Any], ids: Sequence[int], prefilled: int) -> dict[str, Any]:
        """The whole prompt."""
        return {**body, "input_ids": list(ids)}

    def close(self) -> None:
        """Nothing: the servers hold ordinary cache entries only."""

    def segment_done(self) -> None:
        """Nothing to do."""


class OverlayTransport:
    """Requests with the `open_prompt` fields that `sglang_ext.open_prompt` reads.

    Args:
        ttl: Seconds without a request after which the servers forget the prompt.
    """

    mode: TransportMode = "overlay"

    def __init__(self, ttl: float) -> None:
        self.id = uuid.uuid4().hex
        self._ttl = ttl
        self._opened = False
        self._sent = 0.0  # when the last segment was sent
        self._last_done: float | None = None  # when the servers last answered a segment; None if that is long ago

    def segment(self, ids: Sequence[int], prefilled: int) -> dict[str, Any]:
        """The tokens from `prefilled` on."""
        self._opened = True
        self._sent = time.monotonic()
        return self._request("append", {"sampling_params": {"max_new_tokens": 0}}, ids, prefilled)

    def final(self, body: dict[str, Any], ids: Sequence[int], prefilled: int) -> dict[str, Any]:
        """The tokens from `prefilled` on; an ordinary request when there was no segment."""
        if not self._opened:
            return {**body, "input_ids": list(ids)}
        return self._request("final", body, ids, prefilled)

    def close(self) -> dict[str, Any] | None:
        """Makes the servers forget the prompt."""
        if not self._opened:
            return None
        return self._request("close", {"sampling_params": {"max_new_tokens": 0}}, (0,), 0)

    def segment_done(self) -> None:
        """The servers' time to live begins anew, unless it was over while the segment waited there."""
        now = time.monotonic()
        self._last_done = now if now - self._sent < self._ttl / 2 else None

    def _request(self, op: str, body: dict[str, Any], ids: Sequence[int], prefilled: int) -> dict[str, Any]:
        if self._last_done is None or time.monotonic() - self._last_done > self._ttl / 2:
            prefilled = 0  # the servers may have forgotten the prompt
        at = min(prefilled, len(ids) - 1)  # no request may be empty
        sampling = body["sampling_params"]
        custom = {**(sampling.get("custom_params") or {}), "open_prompt": {"id": self.id, "op": op, "at": at}}
        return {**body, "input_ids": list(ids[at:]), "sampling_params": {**sampling, "custom_params": custom}}


def transport_for(pair: Pair) -> SegmentTransport:
    """The overlay's transport when both servers have open prompts, else the fallback."""
    infos = [worker.report.open_prompts for worker in (pair.prefill, pair.decode)]
    if not all(infos):
        return FallbackTransport()
    return OverlayTransport(min(info["ttl"] for info in infos if info))
