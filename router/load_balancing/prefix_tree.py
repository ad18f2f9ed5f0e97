"""A radix tree of the prompts that one worker got: a guess at what its KV cache holds.

Edges carry strings, not characters: a prompt costs a few comparisons and slices of its length.
"""

from collections import OrderedDict

from router.load_balancing.prefix import PromptKind, PromptPrefix

NODE_SIZE = 256
"""What a node counts beside its characters: about the bytes of its objects (274 seen in CPython 3.11)."""


class _Node:
    """A piece of prompts; the children go on where it ends, by their first character."""

    __slots__ = ("children", "label")

    def __init__(self, label: str) -> None:
        self.label = label
        self.children: dict[str, _Node] = {}


class PrefixTree:
    """The prompts a worker got, up to a size; the least recently sent leaves go first.

    Attributes:
        size: Characters in the tree plus `NODE_SIZE` for each node; never above the limit after a call.
    """

    def __init__(self, limit: int) -> None:
        self.size = 0
        self._limit = limit
        self._roots: dict[PromptKind, _Node] = {"text": _Node(""), "tokens": _Node("")}
        # Every node with its parent. A prompt moves its path to the end from the leaf up, so a node
        # always stands before its parent, and the first one is the leaf that was least recently used.
        self._by_age: OrderedDict[_Node, _Node] = OrderedDict()

    def match(self, prefix: PromptPrefix) -> int:
        """How many characters of the prompt the tree holds from its begin on."""
        text = prefix.chars
        at, end = 0, len(text)
        children = self._roots[prefix.kind].children
        while at < end and (node := children.get(text[at])) is not None:
            if not text.startswith(node.label, at):
                return at + _common(node.label, text, at)
            at += len(node.label)
            children = node.children
        return at

    def insert(self, prefix: PromptPrefix) -> None:
        """Add a prompt, or make it the most recent one, and evict what no longer fits."""
        text = prefix.chars
        at, end = 0, len(text)
        parent = self._roots[prefix.kind]
        path: list[tuple[_Node, _Node]] = []
        while at < end:
            node = parent.children.get(text[at])
            if node is None:
                if path and not parent.children:
                    # The end of a conversation moves on: without a new node for each turn, or token,
                    # a path is only as deep as there are branches.
                    parent.label += text[at:]
                    self.size += end - at
                    break
                node = parent.children[text[at]] = _Node(text[at:])
                self.size += end - at + NODE_SIZE
            elif not text.startswith(node.label, at):
                node = self._split(node, parent, _common(node.label, text, at))
            path.append((node, parent))
            at += len(node.label)
            parent = node
        for node, above in reversed(path):
            self._by_age[node] = above
            self._by_age.move_to_end(node)
        while self.size > self._limit:
            self._evict()

    def _split(self, node: _Node, parent: _Node, length: int) -> _Node:
        """Put the first `length` characters of a node into a new one above it, and return that."""
        upper = _Node(node.label[:length])
        parent.children[upper.label[0]] = upper
        node.label = node.label[length:]
        upper.children[node.label[0]] = node
        self._by_age[node] = upper  # keeps its place
        self.size += NODE_SIZE
        return upper

    def _evict(self) -> None:
        leaf, parent = self._by_age.popitem(last=False)
        assert not leaf.children
        del parent.children[leaf.label[0]]
        self.size -= len(leaf.label) + NODE_SIZE


def _common(label: str, text: str, at: int) -> int:
    """How many characters of `label` stand at `at` in `text`.

    By growing steps and then by halving the one that failed, so the cost is that of what is common:
    most prompts differ early.
    """
    low, high, step = 0, min(len(label), len(text) - at), 64
    while low < high and text.startswith(label[low : min(low + step, high)], at + low):
        low = min(low + step, high)
        step *= 2
    high = min(high, low + step)
    while low < high:
        middle = (low + high + 1) // 2
        if text.startswith(label[low:middle], at + low):
            low = middle
        else:
            high = middle - 1
    return low
