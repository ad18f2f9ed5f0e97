"""How much of a prompt each worker's KV cache holds: as the server's events tell, or else as the prompts sent to it.

Events have token ids. So they say nothing of texts and messages, which the servers tokenize: of these there is only the
guess.
"""

import sys

import numpy as np

from router.load_balancing.prefix_tree import PrefixTree
from router.load_balancing.prompt_prefix import PromptPrefix
from router.workers.kv_blocks import TokenPath
from router.workers.worker import Worker

_UTF32 = f"utf-32-{'le' if sys.byteorder == 'little' else 'be'}"


class CachedPrompt:
    """One prompt, whose hashes are computed once for all workers, and only if one of them needs them."""

    def __init__(self, prompt: PromptPrefix) -> None:
        self._prompt = prompt
        self._path: TokenPath | None = None

    def on(self, worker: Worker, tree: PrefixTree) -> int:
        """How many of the prompt's `chars` the worker's cache likely holds; `tree` has the prompts sent to it.

        Where its events were not heard from the beginning on, it may hold more than they say: then the more counts.
        """
        blocks = worker.kv_blocks
        if blocks is None or self._prompt.kind != "tokens" or not blocks.trusted:
            return tree.match(self._prompt)
        if self._path is None:
            ids = np.frombuffer(self._prompt.chars.encode(_UTF32, "surrogatepass"), np.uint32)
            self._path = TokenPath(ids)
        known = blocks.match(self._path)
        return known if blocks.complete else max(known, tree.match(self._prompt))


def prompt_sent(worker: Worker, tree: PrefixTree, prompt: PromptPrefix) -> None:
    """Note that a prompt is sent to a worker: from now on its events should tell of it."""
    tree.insert(prompt)
    if worker.kv_blocks is not None:
        worker.kv_blocks.asked()
