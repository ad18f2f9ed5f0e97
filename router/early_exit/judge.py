"""The judge of answers: a child process with the embedding model, asked over its pipes.

Importing torch holds the interpreter for seconds and an embedding takes tens of milliseconds: neither may happen in
the router's process, where every open stream would wait for it.
"""

import asyncio
import time
from collections.abc import Sequence

from router.early_exit.agreement import Agreement, JudgeError
from router.early_exit.judge_process import JudgeProcess, start_judge_process
from router.early_exit.rules import balance

BUILTIN = "builtin:minilm"
_LONGEST_PAUSE = 60.0  # seconds between tries to start a child that does not start


class Judge:
    """Starts its child at the first call and again when it has died; fulfils `Judging`.

    Args:
        model: `BUILTIN` (all-MiniLM-L6-v2 from an installed package, no network), a folder, or a name on the
            Hugging Face hub such as "Qwen/Qwen3-Embedding-0.6B".
        device: "cpu", "cuda", or "auto": cuda where there is one.
        start_timeout: Seconds the child may take to load the model.
    """

    def __init__(self, model: str = BUILTIN, device: str = "auto", start_timeout: float = 180.0) -> None:
        self._model = model
        self._device = device
        self._start_timeout = start_timeout
        self._child: JudgeProcess | None = None
        self._start: asyncio.Task[JudgeProcess | JudgeError] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._problem = ""
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs and is ready."""
        return self._child.pid if self._child is not None and self._child.problem is None else None

    async def start(self) -> None:
        """Load the model now rather than at the first call; raises JudgeFailed when that fails."""
        await self._ready()

    async def agreement(
        self,
        texts: Sequence[str],
        confidences: Sequence[float],
        gamma: float = 0.5,
        tau: float = 0.7,
        m: int = 1,
        *,
        within: float = 10.0,
    ) -> Agreement:
        """As `Judging.agreement`; `within` includes the start of the child, which goes on when the call gives up.

        Raises ValueError when there are not as many confidences as texts.
        """
        if len(texts) != len(confidences):
            raise ValueError(f"{len(texts)} answers have {len(confidences)} confidences: pass one for each")
        until = time.monotonic() + within
        try:
            async with asyncio.timeout(within):
                child = await self._ready()
                told = await child.ask(
                    {
                        "texts": [text.encode("utf-8", "replace").decode() for text in texts],  # no lone surrogates
                        "confidences": list(confidences),
                        "gamma": gamma,
                        "tau": tau,
                        "m": m,
                        "until": until,
                    }
                )
        except TimeoutError:
            state = "was still loading its model" if self._start is not None else "did not answer"
            raise JudgeError(f"the judge {state} after {within:g} s: allow it more time") from None
        self._failures = 0
        p, q = _number(told["P"]), _number(told["Q"])
        rows = [[_number(value) for value in row] for row in told["S"]]
        return Agreement(_number(told["C"]), p, balance(p, tau), q, rows)

    async def close(self) -> None:
        """End the child; calls that wait, and all later ones, raise JudgeFailed."""
        self._closed = True
        if self._start is not None:
            self._start.cancel()
            await asyncio.gather(self._start, return_exceptions=True)
        if self._child is not None:
            await self._child.close()

    async def _ready(self) -> JudgeProcess:
        """The running child; starts one, once for all who wait, when there is none."""
        if self._closed:
            raise JudgeError("the judge was closed: make a new one")
        if self._start is None:
            if self._child is not None:
                if self._child.problem is None:
                    return self._child
                self._failed(self._child.problem)
                self._child = None
            pause = self._not_before - time.monotonic()
            if pause > 0:
                raise JudgeError(f"the judge is tried again in {pause:.1f} s, since {self._problem}")
            self._start = asyncio.create_task(self._begin())
        try:
            started = await asyncio.shield(self._start)
        except asyncio.CancelledError:
            if self._closed:
                raise JudgeError("the judge was closed while it loaded its model: make a new one") from None
            raise
        if isinstance(started, JudgeError):
            raise JudgeError(str(started))
        return started

    async def _begin(self) -> JudgeProcess | JudgeError:
        """Start the child. The failure is a result: when all callers have given up, nobody would fetch an error."""
        try:
            self._child = await start_judge_process(self._model, self._device, self._start_timeout)
            return self._child
        except JudgeError as failure:
            self._failed(str(failure))
            return failure
        finally:
            self._start = None

    def _failed(self, problem: str) -> None:
        """Remember a failed start or a death; the first is tried again at once, then ever later."""
        self._failures += 1
        pause = 0.0 if self._failures == 1 else min(_LONGEST_PAUSE, 0.5 * 2.0 ** (self._failures - 2))
        self._not_before = time.monotonic() + pause
        self._problem = problem


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
