"""Prompt templates that were made lately: agents with the same prompt have it tokenized once."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from copy import copy

from router.errors import RouterError
from router.speculative_prefill.template import PromptTemplate

MAX_TOKENS = 1 << 18  # of all templates together, about 10 MB
MAX_SECONDS = 60.0  # a model's servers may be replaced by some with another tokenizer


class TemplateCache:
    """Templates by key, the least recently used ones forgotten first.

    Args:
        max_tokens: Of all templates together.
        max_seconds: For which a template is kept.
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
        self._pending: dict[bytes, asyncio.Future[PromptTemplate | RouterError | None]] = {}

    async def get(self, key: bytes, make: Callable[[], Awaitable[PromptTemplate]]) -> PromptTemplate:
        """The template of a key: the one that is kept, or one that is being made, or a new one.

        Args:
            key: Names everything that the template depends on.
            make: Makes it.

        Raises:
            RouterError: It cannot be made; all who wait for it learn that, and the next who asks tries again.
        """
        while True:
            if (kept := self._fresh(key)) is not None:
                return kept
            if (pending := self._pending.get(key)) is None:
                return await self._make(key, make)
            outcome = await asyncio.shield(pending)  # a waiter that is cancelled cancels no other
            if isinstance(outcome, RouterError):
                raise copy(outcome)  # each with a traceback of its own
            if outcome is not None:
                return outcome

    async def _make(self, key: bytes, make: Callable[[], Awaitable[PromptTemplate]]) -> PromptTemplate:
        pending = self._pending[key] = asyncio.get_running_loop().create_future()
        outcome: PromptTemplate | RouterError | None = None  # None lets the next one try: this one was cancelled
        try:
            template = outcome = await make()
        except RouterError as error:
            outcome = copy(error)
            raise
        finally:
            del self._pending[key]
            pending.set_result(outcome)
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


def _size(template: PromptTemplate) -> int:
    """Tokens, and one more for each literal."""
    return len(template.literals) + sum(map(len, template.literals))
