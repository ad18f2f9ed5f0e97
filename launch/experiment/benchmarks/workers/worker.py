"""A child process that answers requests with a library which may hang, or fill the memory, on what a model wrote.

One JSON object a line each way. A request that takes too much is answered with None, its process ended and the next
request gets a new one. `serve` is the other side.
"""

import atexit
import json
import logging
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from threading import Lock
from typing import IO, Any

from launch.experiment.benchmarks.errors import BenchmarkError

log = logging.getLogger(__name__)

CPU_S = 20.0  # seconds of CPU time for a request
WALL_S = 300.0  # seconds on the clock, since other work may have the CPU
_MEMORY = 4 << 30  # bytes of address space


class Worker:
    """A process that is started with its first request and ends with this one. Safe to use from several threads."""

    def __init__(self, module: str, cpu_s: float = CPU_S, wall_s: float = WALL_S) -> None:
        """The module is run as `python -m MODULE SECONDS` and calls `serve`."""
        self._command = [sys.executable, "-m", module, str(cpu_s)]
        self._wall_s = wall_s
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = Lock()

    def ask(self, request: dict[str, Any]) -> Any:
        """The answer; None where the process took too long or died of the request.

        Raises:
            BenchmarkError: The process could not be started, or the library failed.
        """
        with self._lock:
            process = self._process or self._start()
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps(request).encode() + b"\n")
                process.stdin.flush()
            except BrokenPipeError:
                line = b""
            else:
                line = self._line(process.stdout)
            if not line.endswith(b"\n"):
                self._end()
                log.warning("%s gave no answer, took too long or too much memory.", self._command[2])
                return None
        answer = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(f"{self._command[2]} failed: {answer['error']}.")
        return answer["answer"]

    def _start(self) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        atexit.register(self.close)
        assert self._process.stdout is not None
        if self._line(self._process.stdout) != b"ready\n":
            self._end()
            raise BenchmarkError(f"The process that scores answers did not start: {' '.join(self._command)}.")
        return self._process

    def _line(self, stream: IO[bytes]) -> bytes:
        """A line; less when the process ends or the time is over before."""
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        return stream.readline() if poll.poll(self._wall_s * 1000) else b""

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()
        atexit.unregister(self.close)


def serve(answer: Callable[[dict[str, Any]], Any]) -> None:
    """Answer the requests of standard input until it ends; a request that takes too much CPU time ends the process."""
    cpu_s = float(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what the library prints is no answer
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    output.write(b"ready\n")
    output.flush()
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s)
        try:
            said = {"answer": answer(json.loads(line))}
        except MemoryError:
            os._exit(1)
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"[:300]}
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        output.write(json.dumps(said).encode() + b"\n")
        output.flush()
