"""A run of agents, as its client sees it: names for answers, and placeholders for them in others' prompts."""

import asyncio
import re
import uuid
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


class AgentRun:
    """One run of agents whose prompts may have answers in them that do not exist yet.

    A node of an agent graph begins its call with `begin` and gives at once the placeholder for its answer to the nodes
    behind it. Their prompts go to the router while that answer is being written, and are prefilled as it comes::

        async with AgentRun() as run:
            pro = run.begin("pro", lambda fields: ask("A reason for it?", extra_body=fields))
            both = run.begin("both", lambda fields: ask(f"Weigh this: {pro}", extra_body=fields))
            print(await run.answer("both"))

    The block owns the calls. Leaving it waits for all of them and raises what the first of them failed with, unless
    `answer` raised that already; leaving it by an exception cancels them.

    Args:
        run_id: The run's name: 1 to 64 letters, digits or ._:-; by default a new one.

    Attributes:
        id: The run's name, by which `/runs/{id}` shows it.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self.id = _checked(run_id or uuid.uuid4().hex)
        self._calls: dict[str, asyncio.Task[Any]] = {}
        self._raised: set[str] = set()
        self._open = False

    def fields(self, name: str) -> dict[str, str]:
        """The fields that make a request agent `name` of this run; send them as `extra_body`."""
        return {"run": self.id, "agent": _checked(name)}

    @staticmethod
    def placeholder(name: str) -> str:
        """What stands in a prompt where the answer of agent `name` belongs; its request may come later."""
        return f"<|answer:{_checked(name)}|>"

    def begin(self, name: str, call: Callable[[dict[str, str]], Awaitable[Any]]) -> str:
        """Begin an agent's call, and return the placeholder for its answer without waiting.

        Args:
            name: The agent's name, given once in a run.
            call: Sends the request with the fields that it gets, and returns what `answer` shall return. It should not
                retry: the router refuses a name that is taken.

        Raises:
            ValueError: The name has other characters or is taken.
            RuntimeError: The block has not begun, or is over.
        """
        if not self._open:
            raise RuntimeError("begin calls inside the run's block: `async with AgentRun() as run:`")
        placeholder = self.placeholder(name)
        if name in self._calls:
            raise ValueError(f"the run has an agent {name!r} already; names are given once in a run")
        self._calls[name] = asyncio.ensure_future(_call(call, self.fields(name)))
        return placeholder

    async def answer(self, name: str) -> Any:
        """Wait for what an agent's call returns; raises what it failed with, and `KeyError` if it never began."""
        call = self._calls[name]
        await asyncio.wait([call])
        self._raised.add(name)
        return call.result()

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        calls = self._calls
        if error is not None:
            await _cancel(calls.values())
            return
        try:
            await asyncio.gather(*calls.values(), return_exceptions=True)
        except asyncio.CancelledError:
            await _cancel(calls.values())
            raise
        for name, call in calls.items():
            if name not in self._raised:
                call.result()


async def _call(call: Callable[[dict[str, str]], Awaitable[Any]], fields: dict[str, str]) -> Any:
    return await call(fields)


async def _cancel(calls: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel calls, and return when they have ended."""
    cancelled = [*calls]
    for call in cancelled:
        call.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)


def _checked(name: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"a name must be 1 to 64 letters, digits or ._:- and begin with a letter or digit, not {name!r}"
        )
    return name
