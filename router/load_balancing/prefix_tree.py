"""A radix tree of the prompts sent to one worker: an estimate of what its KV cache holds.

Nodes hold strings, not characters, so that a prompt costs a few string comparisons.
"""

from collections import OrderedDict
from typing import get_args

from router.load_balancing.prompt_prefix import PromptKind, PromptPrefix

NODE_OVERHEAD = 256  # characters that a node counts beside its label; its objects take 282 bytes in CPython 3.11


class _Node:
    """A part of one or more prompts. `children` are the continuations, by the first character of their labels."""

    __slots__ = ("children", "label", "unit")

    def __init__(self, label: str, unit: int) -> None:
        self.label = label
        self.unit = unit  # as `PromptPrefix.unit`
        self.children: dict[str, _Node] = {}

    @property
    def size(self) -> int:
        """Its part of `PrefixTree.size`."""
        return len(self.label) * self.unit + NODE_OVERHEAD


class PrefixTree:
    """The prompts sent to one worker, least recently used leaves evicted first.

    `match` says how much of a prompt is known; `insert` adds one. Each kind of prompt has a root of its own.

    Args:
        max_size: Largest `size`.

    Attributes:
        size: Characters in the tree, of which a token id counts as `TOKEN_CHARACTERS`, plus `NODE_OVERHEAD` for each
            node.
    """

    def __init__(self, max_size: int) -> None:
        self.size = 0
        self._max_size = max_size
        self._roots: dict[PromptKind, _Node] = {kind: _Node("", 0) for kind in get_args(PromptKind)}
        # Every node with its parent, least recently used first. `insert` moves a path to the end from the leaf up, so
        # a node always comes before its parent, and the first node is a leaf.
        self._parents_by_age: OrderedDict[_Node, _Node] = OrderedDict()

    def match(self, prefix: PromptPrefix) -> int:
        """How many of the prompt's `chars` the longest prefix has that is in the tree."""
        text = prefix.chars
        position, end = 0, len(text)
        children = self._roots[prefix.kind].children
        while position < end and (node := children.get(text[position])) is not None:
            if not text.startswith(node.label, position):
                return position + _common_length(node.label, text, position)
            position += len(node.label)
            children = node.children
        return position

    def insert(self, prefix: PromptPrefix) -> None:
        """Add a prompt or mark it as most recently used, then evict leaves until `max_size` holds."""
        text = prefix.chars
        position, end = 0, len(text)
        parent = self._roots[prefix.kind]
        path: list[tuple[_Node, _Node]] = []
        while position < end:
            node = parent.children.get(text[position])
            if node is None:
                if path and not parent.children:
                    # A conversation grows: extending the leaf instead of adding a node for each turn keeps a path as
                    # short as the number of branches.
                    parent.label += text[position:]
                    self.size += (end - position) * parent.unit
                    break
                node = parent.children[text[position]] = _Node(text[position:], prefix.unit)
                self.size += node.size
            elif not text.startswith(node.label, position):
                node = self._split(node, parent, _common_length(node.label, text, position))
            path.append((node, parent))
            position += len(node.label)
            parent = node
        for node, parent in reversed(path):
            self._parents_by_age[node] = parent
            self._parents_by_age.move_to_end(node)
        while self.size > self._max_size:
            self._evict()

    def _split(self, node: _Node, parent: _Node, length: int) -> _Node:
        """Split a node after `length` characters and return the new upper node."""
        upper = _Node(node.label[:length], node.unit)
        parent.children[upper.label[0]] = upper
        node.label = node.label[length:]
        upper.children[node.label[0]] = node
        self._parents_by_age[node] = upper  # keeps its age
        self.size += NODE_OVERHEAD
        return upper

    def _evict(self) -> None:
        """Remove the least recently used leaf."""
        leaf, parent = self._parents_by_age.popitem(last=False)
        assert not leaf.children
        del parent.children[leaf.label[0]]
        self.size -= leaf.size


def _common_length(label: str, text: str, start: int) -> int:
    """Length of the common prefix of `label` and `text[start:]`.

    Exponential, then binary search: the cost is that of what is common, and most prompts differ early.
    """
    low, high, step = 0, min(len(label), len(text) - start), 64
    while low < high and text.startswith(label[low : min(low + step, high)], start + low):
        low = min(low + step, high)
        step *= 2
    high = min(high, low + step)
    while low < high:
        middle = (low + high + 1) // 2
        if text.startswith(label[low:middle], start + low):
            low = middle
        else:
            high = middle - 1
    return low
