"""The router's side of the judge's process: starts it, sends it requests, ends it."""

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

from router.early_exit.agreement import JudgeError
from router.early_exit.judge_protocol import JUDGE_MODULE, encode_message, receive_message

logger = logging.getLogger(__name__)

SHUTDOWN_TIMEOUT = 2.0  # seconds to end after stdin closes; then the process is killed
SILENCE_LIMIT = 60.0  # seconds for which the process may leave a request without any response; then it is killed
MAX_UNSENT_BYTES = 16 << 20  # of requests that the process has not read yet
MAX_LOG_LINE = 1 << 16  # bytes


async def start_judge_process(model: str, device: str, start_timeout: float) -> "JudgeProcess":
    """A process that has loaded its model; raises `JudgeError` when that fails or takes too long (seconds)."""
    quiet = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false"}
    arguments = ["-m", JUDGE_MODULE, "--model", model, "--device", device]
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
    judge = JudgeProcess(process)
    try:
        async with asyncio.timeout(start_timeout):
            await judge.wait_until_loaded()
    except TimeoutError:
        await judge.close()
        raise JudgeError(
            f"the judge did not load the model {model} within {start_timeout:g} s: allow it more time"
        ) from None
    except BaseException:
        await judge.close()
        raise
    return judge


def _offline(model: str) -> dict[str, str]:
    """A model on this machine is not looked up over the network."""
    return {"HF_HUB_OFFLINE": "1"} if model.startswith("builtin:") or Path(model).is_dir() else {}


class JudgeProcess:
    """A running judge process; owns the tasks that read its pipes. `close` must be awaited.

    Attributes:
        problem: Why it takes no more requests; None while it does.
    """

    def __init__(self, process: Process) -> None:
        self.problem: str | None = None
        self._process = process
        self._request_ids = itertools.count()
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._unanswered: dict[int, float] = {}  # request ids, with the time at which each was sent
        self._heard_at = 0.0
        self._silence_check: asyncio.TimerHandle | None = None
        self._loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last_log_line: deque[str] = deque(maxlen=1)
        self._log_task = asyncio.create_task(self._forward_log())
        self._receive_task = asyncio.create_task(self._receive())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def wait_until_loaded(self) -> None:
        """Wait for the model; raises `JudgeError` when it cannot be loaded."""
        await asyncio.shield(self._loaded)  # a cancelled caller does not cancel the future that others await

    async def wait_until_ended(self) -> None:
        """Wait until the process has ended."""
        await asyncio.wait([self._receive_task])

    async def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """The response to a request; raises `JudgeError` when the process refuses it or dies. May be cancelled."""
        if self.problem is not None:
            raise JudgeError(self.problem)
        if self._process.stdin is not None and self._process.stdin.transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
            raise JudgeError("the judge does not keep up with the answers: let fewer runs exit early at once")
        request_id = next(self._request_ids)
        pending = self._pending[request_id] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        try:
            # Whole messages only: nothing is awaited between the first byte and the last.
            self._process.stdin.write(encode_message({**message, "id": request_id}))
            self._unanswered[request_id] = asyncio.get_running_loop().time()
            if self._silence_check is None:
                self._check_silence()
            with suppress(ConnectionError):  # `_receive` sees that the process died, and knows why
                await self._process.stdin.drain()
            response: dict[str, Any] = await pending
            return response
        finally:
            del self._pending[request_id]

    async def close(self) -> None:
        """End the process and the tasks; returns when all have ended."""
        self._fail("the judge was closed")
        self._stop_checking()
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            async with asyncio.timeout(SHUTDOWN_TIMEOUT):
                await self._process.wait()
        except TimeoutError:
            self._kill()
            await self._process.wait()
        except asyncio.CancelledError:
            self._kill()
            raise
        finally:
            tasks = (self._log_task, self._receive_task)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    def _check_silence(self) -> None:
        """Kill the process when it has left a request unanswered, and said nothing else, for `SILENCE_LIMIT`.

        It may hang inside a library, and would never take another request.
        """
        loop = asyncio.get_running_loop()
        oldest = next(iter(self._unanswered.values()), None)
        if oldest is None:
            self._silence_check = None
            return
        silent = loop.time() - max(oldest, self._heard_at)
        if silent >= SILENCE_LIMIT:
            self._fail(f"the judge's process said nothing for {SILENCE_LIMIT:g} s and was ended")
            self._stop_checking()
            self._kill()
            return
        self._silence_check = loop.call_later(SILENCE_LIMIT - silent, self._check_silence)

    def _stop_checking(self) -> None:
        if self._silence_check is not None:
            self._silence_check.cancel()
            self._silence_check = None

    async def _receive(self) -> None:
        """Pass each response to the request that awaits it, until the process ends."""
        try:
            await self._pass_on_responses()
        except Exception as error:
            self._fail(f"the judge's process sent what is no message ({error!r})")
            self._kill()
        self._stop_checking()
        status = await self._process.wait()
        await asyncio.wait([self._log_task])  # so that its last line is known
        how = f"was killed by signal {-status}" if status < 0 else f"ended with exit code {status}"
        last = f"; its last words were: {self._last_log_line[-1]}" if self._last_log_line else ""
        self._fail(f"the judge's process {how}{last}")

    async def _pass_on_responses(self) -> None:
        assert self._process.stdout is not None
        while (message := await receive_message(self._process.stdout)) is not None:
            if "id" not in message:
                if "ready" in message:
                    _resolve(self._loaded, None)
                else:
                    self._fail(f"the judge could not load its model: {message['failed']}")
                continue
            self._heard_at = asyncio.get_running_loop().time()
            self._unanswered.pop(message["id"], None)
            pending = self._pending.get(message["id"])
            if pending is None:
                continue  # its caller has given up
            if "problem" in message:
                _resolve(pending, JudgeError(f"the judge could not measure: {message['problem']}"))
            else:
                _resolve(pending, message)

    async def _forward_log(self) -> None:
        """Log its stderr, line by line."""
        assert self._process.stderr is not None
        rest = b""
        while chunk := await self._process.stderr.read(MAX_LOG_LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            self._last_log_line.extend(self._log(line) for line in lines if line.strip())
            rest = rest[-MAX_LOG_LINE:]
        if rest.strip():
            self._last_log_line.append(self._log(rest))

    def _log(self, line: bytes) -> str:
        text = line.decode("utf-8", "replace").strip()[:500]
        logger.info("judge %d: %s", self.pid, text)
        return text

    def _fail(self, problem: str) -> None:
        """Fail all pending requests and later ones. The first reason counts."""
        if self.problem is not None:
            return
        self.problem = problem
        _resolve(self._loaded, JudgeError(problem))
        for pending in self._pending.values():
            _resolve(pending, JudgeError(problem))
        if self._loaded.done():
            self._loaded.exception()  # marked as retrieved, also when nobody awaits it


def _resolve(future: "asyncio.Future[Any]", value: object) -> None:
    if future.done():
        return
    if isinstance(value, Exception):
        future.set_exception(value)
    else:
        future.set_result(value)
