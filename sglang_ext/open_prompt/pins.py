"""Holds on pages of the radix cache, under a budget."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from sglang_ext.open_prompt.nodes import join


@dataclass(eq=False)
class Pin:
    """A lock on one path of the radix cache; None once it was taken away."""

    node: Any
    tokens: int


@dataclass
class Pins:
    """Oldest first. Two prompts that share a prefix both count it, so the pool holds at least the promise.

    Attributes:
        cache: SGLang's `RadixCache`.
        budget: Tokens that may be pinned together.
    """

    cache: Any
    budget: int
    taken: int = 0  # pins that were given up for the budget or for an ordinary request
    _held: deque[Pin] = field(default_factory=deque)

    @property
    def tokens(self) -> int:
        """Tokens pinned now."""
        return sum(pin.tokens for pin in self._held)

    def move(self, old: Pin | None, req: Any) -> Pin | None:
        """Pin what the cache has of a request's prompt, instead of `old`."""
        from sglang.srt.mem_cache.base_prefix_cache import MatchPrefixParams
        from sglang.srt.mem_cache.radix_cache import RadixKey

        found = self.cache.match_prefix(MatchPrefixParams(key=RadixKey(req.origin_input_ids, extra_key=req.extra_key)))
        pin = Pin(found.last_device_node, len(found.device_indices))
        if pin.tokens:
            self.cache.inc_lock_ref(pin.node)
            self._held.append(pin)
        self.release(old)
        join(self.cache, pin.node)
        while self.tokens > self.budget:
            self.take_oldest()
        return pin if pin.node is not None and pin.tokens else None

    def release(self, pin: Pin | None) -> None:
        """Let go; a pin that was taken away before is let go already."""
        if pin is None or pin.node is None:
            return
        self._held.remove(pin)
        if self._is_in_cache(pin.node):
            self.cache.dec_lock_ref(pin.node)
        pin.node = None

    def take_oldest(self) -> bool:
        """Give up the oldest pin; False when there is none."""
        if not self._held:
            return False
        self.taken += 1
        self.release(self._held[0])
        return True

    def _is_in_cache(self, node: Any) -> bool:
        """A flush gives the cache a new root; what hung on the old one is gone."""
        while node.parent is not None:
            node = node.parent
        return node is self.cache.root_node

    def to_json(self) -> dict[str, int]:
        """As `/server_info` shows it; pages count as the tokens they hold."""
        return {"pinned": self.tokens, "budget": self.budget, "taken": self.taken}
