"""The judge of answers: measures agreement in a child process that holds the embedding model.

Importing torch blocks the interpreter for seconds, and an embedding takes tens of milliseconds. In the router's own
process, every open stream would wait for it.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

from router.early_exit.agreement import Agreement, JudgeError, balance
from router.early_exit.judge_process import JudgeProcess, start_judge_process
from router.early_exit.judge_protocol import BUILTIN_MODEL, nan_from_null

logger = logging.getLogger(__name__)

MAX_RESTART_BACKOFF = 60.0  # seconds between attempts to start a process that does not start
STABLE_AFTER = 60.0  # seconds of a process's life after which its death is the first one again


class Judge:
    """An `AgreementJudge` that starts its process at the first request, and again as soon as it has died.

    Args:
        model: `BUILTIN_MODEL` (all-MiniLM-L6-v2 from an installed package, no network), a folder, or a name on the
            Hugging Face hub such as "Qwen/Qwen3-Embedding-0.6B".
        device: "cpu", "cuda", or "auto": cuda where there is one.
        start_timeout: Seconds the process may take to load the model.
    """

    def __init__(self, model: str = BUILTIN_MODEL, device: str = "auto", start_timeout: float = 180.0) -> None:
        self._model = model
        self._device = device
        self._start_timeout = start_timeout
        self._process: JudgeProcess | None = None
        self._starting: asyncio.Task[JudgeProcess | JudgeError] | None = None
        self._failures = 0
        self._retry_at = 0.0
        self._last_problem = ""
        self._closed = False
        self._revival: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The id of its process; None while there is none with a loaded model."""
        return self._process.pid if self._process is not None and self._process.problem is None else None

    @property
    def state(self) -> str:
        """`ready`, `loading`, `failed`, or `idle` while nothing has needed it."""
        if self.pid is not None:
            return "ready"
        if self._starting is not None:
            return "loading"
        return "failed" if self._failures else "idle"

    async def start(self) -> None:
        """Load the model now rather than at the first request; raises `JudgeError` when that fails."""
        await self._running_process()

    def start_soon(self) -> None:
        """Begin to load the model, in the background."""
        if self._starting is None and self._process is None:
            self._starting = asyncio.create_task(self._start_process())

    async def agreement(
        self,
        texts: Sequence[str],
        confidences: Sequence[float],
        gamma: float = 0.5,
        tau: float = 0.7,
        m: int = 1,
        similarity: str = "pooled",
        *,
        within: float = 10.0,
    ) -> Agreement:
        """As `AgreementJudge.agreement`; `within` includes the start of the process, which goes on after a timeout.

        Raises ValueError when there are not as many confidences as texts.
        """
        if len(texts) != len(confidences):
            raise ValueError(f"{len(texts)} answers have {len(confidences)} confidences: pass one for each")
        deadline = time.monotonic() + within
        try:
            async with asyncio.timeout(within):
                process = await self._running_process()
                response = await process.request(
                    {
                        "texts": [text.encode("utf-8", "replace").decode() for text in texts],  # no lone surrogates
                        "confidences": list(confidences),
                        "gamma": gamma,
                        "tau": tau,
                        "m": m,
                        "similarity": similarity,
                        "deadline": deadline,
                    }
                )
        except TimeoutError:
            state = "was still loading its model" if self._starting is not None else "did not answer"
            raise JudgeError(f"the judge {state} after {within:g} s: allow it more time") from None
        self._failures = 0
        c, p, q = (nan_from_null(response[name]) for name in ("C", "P", "Q"))
        similarities = [[nan_from_null(value) for value in row] for row in response["S"]]
        return Agreement(c, p, balance(p, tau), q, similarities)

    async def close(self) -> None:
        """End the process; pending requests and all later ones raise `JudgeError`."""
        self._closed = True
        await _end(self._starting)
        await _end(self._revival)  # last: a start that just succeeded has begun one
        if self._process is not None:
            await self._process.close()

    async def _running_process(self) -> JudgeProcess:
        """The running process; starts one, once for all callers, when there is none."""
        if self._closed:
            raise JudgeError("the judge was closed: make a new one")
        if self._starting is None:
            if self._process is not None:
                if self._process.problem is None:
                    return self._process
                self._record_failure(self._process.problem)
                self._process = None
            backoff = self._retry_at - time.monotonic()
            if backoff > 0:
                raise JudgeError(f"the judge is tried again in {backoff:.1f} s, since {self._last_problem}")
            self._starting = asyncio.create_task(self._start_process())
        try:
            started = await asyncio.shield(self._starting)
        except asyncio.CancelledError:
            if self._closed:
                raise JudgeError("the judge was closed while it loaded its model: make a new one") from None
            raise
        if isinstance(started, JudgeError):
            raise JudgeError(str(started))
        return started

    async def _start_process(self) -> JudgeProcess | JudgeError:
        """Start the process. A failure is returned: raised, nobody might retrieve it once all callers gave up."""
        try:
            process = await start_judge_process(self._model, self._device, self._start_timeout)
            self._process = process
            self._revival = asyncio.create_task(self._revive(process))
            return process
        except JudgeError as error:
            self._record_failure(str(error))
            return error
        finally:
            self._starting = None

    async def _revive(self, process: JudgeProcess) -> None:
        """Start another process once this one has died, so that no decision waits for its model."""
        born = time.monotonic()
        await process.wait_until_ended()
        if not self._closed:
            logger.warning("the judge is started again: %s", process.problem)
        if time.monotonic() - born > STABLE_AFTER:
            self._failures = 0
        while not self._closed:
            try:
                await self._running_process()
            except JudgeError as error:
                if self._closed:
                    return
                logger.warning("the judge did not come back, and is tried again: %s", error)
                await asyncio.sleep(max(0.1, self._retry_at - time.monotonic()))
            else:
                return

    def _record_failure(self, problem: str) -> None:
        """Set the backoff after a failed start or a death: none after the first failure, then ever longer."""
        self._failures += 1
        backoff = 0.0 if self._failures == 1 else min(MAX_RESTART_BACKOFF, 0.5 * 2.0 ** (self._failures - 2))
        self._retry_at = time.monotonic() + backoff
        self._last_problem = problem


async def _end(task: "asyncio.Task[Any] | None") -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
