"""The answer of an upstream agent while it is being written, and how its readers follow it."""

import asyncio
import itertools
import sys
from collections import deque
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from router.speculative_prefill.vocabulary import Vocabulary

ID_BYTES = 40  # of a token id in a list
ANSWER_BYTES = 2048  # of an answer without its text and token ids

_finish_counter = itertools.count()


class UpstreamAnswer:
    """What is known of an answer so far; an `AnswerWatch` waits for more.

    Attributes:
        name: The agent's name.
        vocabulary: What `ids` mean; None where only the text is known, or nothing yet.
        ids: Its token ids, without a stop token. They only grow, except for `restart` and `drop`.
        text: The same as text; its end may lag behind `ids`, or be half a character.
        finish_order: Its number among all finished answers of the process; None while it runs.
        cut: Whether a stop string ended it: then `ids` go on behind the end of `text`.
        text_only: Whether readers get `text` only, since `ids` begin with a part that they must not get.
        dropped: Whether readers go on without it.
        error: Why it failed; None otherwise.
        version: Counts changes.
        watches: Told of every change.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.vocabulary: Vocabulary | None = None
        self.ids: Sequence[int] = ()
        self.text = ""
        self.finish_order: int | None = None
        self.cut = False
        self.text_only = False
        self.dropped = False
        self.error: Exception | None = None
        self.version = 0
        self.watches: set[AnswerWatch] = set()

    @property
    def done(self) -> bool:
        """Whether it is final."""
        return self.finish_order is not None

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return ANSWER_BYTES + sys.getsizeof(self.text) + ID_BYTES * len(self.ids)

    def update(self, ids: Sequence[int], text: str = "") -> None:
        """Set the whole answer so far, not only what is new."""
        self.ids, self.text = ids, text
        self._notify()

    def finish(self, *, cut: bool = False) -> None:
        """What is known is the whole answer."""
        self.cut = cut
        self.finish_order = next(_finish_counter)
        self._notify()

    def fail(self, error: Exception) -> None:
        """It will never be complete; its readers fail with `error`."""
        self.error = error
        self.finish()

    def drop(self) -> None:
        """Remove it from the prompts that read it, as if there were no such agent."""
        self.ids, self.text, self.dropped = (), "", True
        self.finish()

    def restart(self) -> None:
        """Forget what is known: the agent is retried, perhaps on servers with another tokenizer."""
        self.vocabulary, self.text_only = None, False
        self.update(())

    def _notify(self) -> None:
        self.version += 1
        for watch in self.watches:
            watch.notice(self)


class AnswerWatch:
    """Follows several answers while its `with` block lasts. A change costs the same, however many are followed.

    Args:
        answers: The answers; one that is given several times is followed once.

    Attributes:
        answers: The answers, each once.
        finished: Those that have ended, in the order in which they did; the owner may take from its front.
    """

    def __init__(self, answers: Iterable[UpstreamAnswer]) -> None:
        self.answers = tuple(dict.fromkeys(answers))
        self.finished: deque[UpstreamAnswer] = deque()
        self._ended: set[UpstreamAnswer] = set()
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    def __enter__(self) -> Self:
        for answer in sorted(self.answers, key=lambda each: each.finish_order or 0):
            answer.watches.add(self)
            self.notice(answer)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for answer in self.answers:
            answer.watches.discard(self)

    def notice(self, answer: UpstreamAnswer) -> None:
        """An answer has changed."""
        self._error = self._error or answer.error
        if answer.done and answer not in self._ended:
            self._ended.add(answer)
            self.finished.append(answer)
        self._changed.set()

    def check(self) -> None:
        """Raise the error of the first answer that failed, if one did."""
        if self._error is not None:
            raise self._error

    async def changed(self) -> None:
        """Return once an answer has changed since the last call; raises as `check`."""
        self.check()
        await self._changed.wait()
        self._changed.clear()
        self.check()

    async def all_finished(self) -> None:
        """Return once every answer has ended; raises as `check`."""
        self.check()
        while len(self._ended) < len(self.answers):
            await self.changed()
