"""The judge's process as seen from the router: started, asked, and ended."""

import asyncio
import itertools
import logging
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

from router.early_exit import framing as frames
from router.early_exit.agreement import JudgeError

logger = logging.getLogger(__name__)

_GRACE = 2.0  # seconds to end after stdin closes; then it is killed


async def start_judge_process(model: str, device: str, limit: float) -> "JudgeProcess":
    """A child that has loaded its model; raises JudgeFailed, with its words, when it has not within `limit` seconds."""
    quiet = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
    arguments = ["-m", "router.early_exit.judge_main", "--model", model, "--device", device]
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, **quiet, **_offline(model)},
        )
    except OSError as error:
        raise JudgeError(f"the judge's process could not be started: {error.strerror or error}") from None
    child = JudgeProcess(process)
    try:
        async with asyncio.timeout(limit):
            await child.loaded()
    except TimeoutError:
        await child.close()
        raise JudgeError(f"the judge did not load the model {model} within {limit:g} s: allow it more time") from None
    except BaseException:
        await child.close()
        raise
    return child


def _offline(model: str) -> dict[str, str]:
    """A model that is here is not asked for over the network."""
    return {"HF_HUB_OFFLINE": "1"} if model.startswith("builtin:") or Path(model).is_dir() else {}


class JudgeProcess:
    """A running judge process; owns the tasks that read its pipes. `close` must be awaited.

    Attributes:
        problem: Why it cannot be asked any more; None while it can.
    """

    def __init__(self, process: Process) -> None:
        self.problem: str | None = None
        self._process = process
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._words: deque[str] = deque(maxlen=1)
        self._tasks = [asyncio.create_task(self._log())]
        self._tasks.append(asyncio.create_task(self._receive()))

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def loaded(self) -> None:
        """Wait for the model; raises JudgeFailed when it cannot be loaded."""
        await asyncio.shield(self._ready)  # who gives up waiting does not cancel what others learn

    async def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its answer; raises JudgeFailed when it refuses or dies. A call may be cancelled at any time."""
        if self.problem is not None:
            raise JudgeError(self.problem)
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        try:
            # Whole frames only: nothing is awaited between the first byte and the last.
            self._process.stdin.write(frames.pack({**request, "id": number}))
            with suppress(ConnectionError):  # `_receive` sees its death, and knows why
                await self._process.stdin.drain()
            found: dict[str, Any] = await answer
            return found
        finally:
            del self._waiting[number]

    async def close(self) -> None:
        """End the process and the tasks; waits until both have ended."""
        self._break("the judge was closed")
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(_GRACE):
                await self._process.wait()
        except TimeoutError:
            self._kill()
            await self._process.wait()
        except asyncio.CancelledError:
            self._kill()
            raise
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def _receive(self) -> None:
        """Hand each message to who waits for it, until the last."""
        assert self._process.stdout is not None
        while (message := await frames.receive(self._process.stdout)) is not None:
            if "id" not in message:
                if "ready" in message:
                    _settle(self._ready, None)
                    continue
                self._break(f"the judge could not load its model: {message['failed']}")
                continue
            answer = self._waiting.get(message["id"])
            if answer is None:
                continue  # its caller has given up
            if "problem" in message:
                _settle(answer, JudgeError(f"the judge could not measure: {message['problem']}"))
            else:
                _settle(answer, message)
        status = await self._process.wait()
        await asyncio.wait([self._tasks[0]])  # its last words
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit code {status}"
        last = f"; its last words were: {self._words[-1]}" if self._words else ""
        self._break(f"the judge's process {how}{last}")

    async def _log(self) -> None:
        """Its stderr, line by line."""
        assert self._process.stderr is not None
        rest = b""
        while piece := await self._process.stderr.read(1 << 16):
            *lines, rest = (rest + piece).split(b"\n")
            self._words.extend(self._logged(line) for line in lines if line.strip())
            rest = rest[-(1 << 16) :]
        if rest.strip():
            self._words.append(self._logged(rest))

    def _logged(self, line: bytes) -> str:
        words = line.decode("utf-8", "replace").strip()[:500]
        logger.info("judge %d: %s", self.pid, words)
        return words

    def _break(self, problem: str) -> None:
        """Nothing more comes: tell everybody. The first reason counts."""
        if self.problem is not None:
            return
        self.problem = problem
        _settle(self._ready, JudgeError(problem))
        for waiting in self._waiting.values():
            _settle(waiting, JudgeError(problem))
        if self._ready.done():
            self._ready.exception()  # seen, also when nobody waits for it


def _settle(future: "asyncio.Future[Any]", value: object) -> None:
    if future.done():
        return
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
