"""Pins prefixes of open prompts in the radix cache, up to a budget."""

from collections import deque
from dataclasses import dataclass, field

from sglang_ext.open_prompt.node_merge import merge_chain
from sglang_ext.upstream.cache import RadixCache, TreeNode
from sglang_ext.upstream.request import Request

MAX_RELEASES = 64  # pins released in one step of a scheduler; for each SGLang looks for room anew


@dataclass(eq=False)
class Pin:
    """A lock on one path of the radix cache; `node` is None once it was released."""

    node: TreeNode | None
    tokens: int


@dataclass
class PinnedPrefixes:
    """All pins, the oldest first. A prefix that two prompts share counts twice, so the pool holds at most `tokens`.

    Attributes:
        cache: Where the prefixes are.
        budget: Tokens that may be pinned together.
        released_early: Pins released for the budget or for an ordinary request.
        tokens: Tokens pinned now.
    """

    cache: RadixCache
    budget: int
    released_early: int = 0
    tokens: int = 0
    _held: deque[Pin] = field(default_factory=deque)

    def replace(self, old: Pin | None, req: Request) -> Pin | None:
        """Pin what is cached of a request's prompt, then release `old`; None when nothing is pinned."""
        from sglang.srt.mem_cache.base_prefix_cache import MatchPrefixParams
        from sglang.srt.mem_cache.radix_cache import RadixKey

        match = self.cache.match_prefix(MatchPrefixParams(key=RadixKey(req.origin_input_ids, extra_key=req.extra_key)))
        node = match.last_device_node
        pin = Pin(node, len(match.device_indices))
        if pin.tokens:
            self.cache.inc_lock_ref(node)
            self._held.append(pin)
            self.tokens += pin.tokens
        self.release(old)
        merge_chain(self.cache, node)
        self.shrink_to(self.budget)
        return pin if pin.node is not None and pin.tokens else None

    def release(self, pin: Pin | None) -> None:
        """Unlock a prefix; does nothing for None or a pin that was released before."""
        if pin is None or pin.node is None:
            return
        self._held.remove(pin)
        self.tokens -= pin.tokens
        if self._is_in_cache(pin.node):
            self.cache.dec_lock_ref(pin.node)
        pin.node = None

    def release_oldest(self) -> bool:
        """Release the oldest pin; False when there is none."""
        if not self._held:
            return False
        self.released_early += 1
        self.release(self._held[0])
        return True

    def shrink_to(self, tokens: int) -> None:
        """Release the oldest pins until at most so many tokens are pinned, or none."""
        while self.tokens > tokens and self.release_oldest():
            pass

    def _is_in_cache(self, node: TreeNode) -> bool:
        """A flush gives the cache a new root; nodes below the old one are gone."""
        while node.parent is not None:
            node = node.parent
        return node is self.cache.root_node

    def to_json(self) -> dict[str, int]:
        """Return what `/server_info` shows; pages count as the tokens they hold."""
        return {"pinned": self.tokens, "budget": self.budget, "taken": self.released_early}
