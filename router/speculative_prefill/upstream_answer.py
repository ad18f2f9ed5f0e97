"""An agent's answer while it comes."""

import asyncio
import itertools
from collections.abc import Iterable, Sequence

_finishes = itertools.count()


class UpstreamAnswer:
    """What is known of an answer, and a way to wait for more.

    Attributes:
        model: Whose tokens `ids` are; None where only its text is known, or nothing yet.
        ids: Token ids of the answering model, without a stop token. They only grow, but for `restart`
            and `drop`.
        text: The same as text; its end may lag behind or hold half a character.
        finished: The place of its end among all answers of the process; None while it runs.
        cut: Whether a stop string ended it: then `ids` go on behind the end of `text`.
        dropped: Whether it is not wanted any more.
        error: What it failed with; None else.
        version: Counts changes, for `changed`.
    """

    def __init__(self, name: str, model: str | None = None) -> None:
        self.name = name
        self.model = model
        self.ids: Sequence[int] = ()
        self.text = ""
        self.finished: int | None = None
        self.cut = False
        self.dropped = False
        self.error: Exception | None = None
        self.version = 0
        self.waiters: set[asyncio.Event] = set()

    @property
    def done(self) -> bool:
        """Whether nothing more comes."""
        return self.finished is not None

    def grow(self, ids: Sequence[int], text: str = "") -> None:
        """Set what is known now: all of it, not the difference."""
        self.ids, self.text = ids, text
        self._tell()

    def finish(self, *, cut: bool = False) -> None:
        """Nothing more comes."""
        self.cut = cut
        self.finished = next(_finishes)
        self._tell()

    def fail(self, error: Exception) -> None:
        """It never comes: whoever follows it gets the error."""
        self.error = error
        self.finish()

    def drop(self) -> None:
        """It is not wanted any more: readers go on as if it had never been asked for."""
        self.ids, self.text, self.dropped = (), "", True
        self.finish()

    def restart(self) -> None:
        """It is asked anew: what was known does not hold."""
        self.grow(())

    def _tell(self) -> None:
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
