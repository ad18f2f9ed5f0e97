"""The answer of an upstream agent while it is being written."""

import asyncio
import itertools
from collections.abc import Iterable, Sequence

_finish_counter = itertools.count()


class UpstreamAnswer:
    """What is known of an answer so far; `wait_for_change` waits for more.

    Attributes:
        name: The agent's name.
        model: The model whose token ids `ids` are; None where only the text is known, or nothing yet.
        ids: Token ids of that model, without a stop token. They only grow, except for `restart` and `drop`.
        text: The same as text; its end may lag behind `ids`, or be half a character.
        finish_order: Its number among all finished answers of the process; None while it runs.
        cut: Whether a stop string ended it: then `ids` go on behind the end of `text`.
        dropped: Whether readers go on without it.
        error: Why it failed; None otherwise.
        version: Counts changes.
        waiters: Set at every change.
    """

    def __init__(self, name: str, model: str | None = None) -> None:
        self.name = name
        self.model = model
        self.ids: Sequence[int] = ()
        self.text = ""
        self.finish_order: int | None = None
        self.cut = False
        self.dropped = False
        self.error: Exception | None = None
        self.version = 0
        self.waiters: set[asyncio.Event] = set()

    @property
    def done(self) -> bool:
        """Whether it is final."""
        return self.finish_order is not None

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
        """Forget what is known: the agent is retried."""
        self.update(())

    def _notify(self) -> None:
        self.version += 1
        for event in self.waiters:
            event.set()


async def wait_for_change(answers: Iterable[UpstreamAnswer], since: int) -> None:
    """Return once one of the answers has changed; `since` is the sum of the versions last seen."""
    answers = list(answers)
    event = asyncio.Event()
    for answer in answers:
        answer.waiters.add(event)
    try:
        if sum(answer.version for answer in answers) == since:
            await event.wait()
    finally:
        for answer in answers:
            answer.waiters.discard(event)
