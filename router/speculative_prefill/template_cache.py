"""Prompt templates that were made lately: agents with the same prompt have it tokenized once."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from copy import copy
from dataclasses import dataclass

from router.errors import RouterError
from router.speculative_prefill.template import PromptTemplate

MAX_TOKENS = 1 << 18  # of all templates together, about 10 MB
MAX_SECONDS = 60.0  # a model's servers may be replaced by some with another tokenizer


@dataclass
class _Making:
    """A template that is being made, and how many wait for it; it is given up when the last one leaves."""

    task: asyncio.Task[PromptTemplate]
    waiters: int = 0


class TemplateCache:
    """Templates by key, the least recently used ones forgotten first.

    Args:
        max_tokens: Of all templates together.
        max_seconds: For which a template is used.
        clock: Gives the time in seconds.
    """

    def __init__(
        self,
        max_tokens: int = MAX_TOKENS,
        max_seconds: float = MAX_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_tokens, self._max_seconds, self._clock = max_tokens, max_seconds, clock
        self._kept: OrderedDict[bytes, tuple[float, PromptTemplate]] = OrderedDict()  # with the time it was made
        self._tokens = 0
        self._pending: dict[bytes, _Making] = {}

    async def get(self, key: bytes, make: Callable[[], Awaitable[PromptTemplate]]) -> PromptTemplate:
        """The template of a key: the one that is kept, or one that is being made, or a new one.

        Args:
            key: Names everything that the template depends on.
            make: Makes it.

        Raises:
            RouterError: It cannot be made; all who wait for it learn that, and the next who asks tries again.
        """
        if (kept := self._fresh(key)) is not None:
            return kept
        making = self._pending.get(key)
        if making is None:
            making = self._pending[key] = _Making(asyncio.create_task(self._make(key, make)))
            making.task.add_done_callback(_retrieve_error)
        making.waiters += 1
        try:
            await asyncio.wait([making.task])  # one that leaves does not cancel it
        finally:
            making.waiters -= 1
            if not making.waiters and self._pending.get(key) is making:
                del self._pending[key]
                making.task.cancel()
        error = making.task.exception()
        if isinstance(error, RouterError):
            raise copy(error)  # each with a traceback of its own
        return making.task.result()

    async def _make(self, key: bytes, make: Callable[[], Awaitable[PromptTemplate]]) -> PromptTemplate:
        template = await make()
        self._keep(key, template)
        return template

    def _fresh(self, key: bytes) -> PromptTemplate | None:
        made, template = self._kept.get(key, (0.0, None))
        if template is None:
            return None
        if self._clock() - made > self._max_seconds:
            self._forget(key)
            return None
        self._kept.move_to_end(key)
        return template

    def _keep(self, key: bytes, template: PromptTemplate) -> None:
        if _size(template) > self._max_tokens:
            return
        self._kept[key] = self._clock(), template
        self._tokens += _size(template)
        while self._tokens > self._max_tokens:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: bytes) -> None:
        _, template = self._kept.pop(key)
        self._tokens -= _size(template)


def _retrieve_error(task: asyncio.Task[PromptTemplate]) -> None:
    """Have asyncio not report an error that nobody waited for any more."""
    if not task.cancelled():
        task.exception()


def _size(template: PromptTemplate) -> int:
    """Tokens, and one more for each literal."""
    return len(template.literals) + sum(map(len, template.literals))
