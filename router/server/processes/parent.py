"""Several processes on one port: started by forking, started again when they die, ended together."""

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from router.server.processes.lifeline import die_with_parent
from router.server.processes.sockets import listen_many, listen_on_metrics_port, listen_privately
from router.server.settings import ServerSettings

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a process that died is started again
STEADY = 60.0  # seconds of life after which its next death is a first one
LATER = 5.0  # seconds beyond the grace period that a process may take to end


@dataclass(frozen=True)
class ProcessIdentity:
    """Which of a router's processes one is.

    Attributes:
        index: Its number, from 0 on.
        paths: Every process's private socket.
        again: Whether it has died before, so that the others know what it does not.
    """

    index: int
    paths: tuple[Path, ...]
    again: bool


@dataclass
class ChildProcess:
    """One of the processes.

    Attributes:
        index: Its number, from 0 on.
        listeners: Its sockets; they stay open here, so that who connects while it is started again is served then.
        pid: The running process; None between two.
        started: When it was, on the monotonic clock.
        starts: How often it was started.
        pause: Seconds to wait before it is started again.
    """

    index: int
    listeners: list[socket.socket]
    pid: int | None = None
    started: float = 0.0
    starts: int = 0
    pause: float = PAUSE


class ProcessManager:
    """Runs `work` in several processes; it must be the only thread of this one.

    Args:
        server: Where to listen, and how long requests get to end.
        count: How many processes.
        work: Serves, and gives the exit code.
    """

    def __init__(
        self, server: ServerSettings, count: int, work: Callable[[ProcessIdentity, list[socket.socket]], int]
    ) -> None:
        self._work = work
        self._grace = server.grace_secs + LATER
        self._members: list[ChildProcess] = []
        own = listen_many(server.host, server.port, count)
        shared = listen_on_metrics_port(server)
        self._folder = Path(tempfile.mkdtemp(prefix="router-"))
        self._paths = [self._folder / str(index) for index in range(count)]
        try:
            for index, listener in enumerate(own):
                self._members.append(ChildProcess(index, [listener, *shared, listen_privately(self._paths[index])]))
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise

    def run(self) -> int:
        """Until SIGINT or SIGTERM; the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            for member in self._members:
                self._start(member)
            ended_by = self._watch()
            return self._stop() or (130 if ended_by == signal.SIGINT else 0)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, member: ChildProcess) -> None:
        member.started = time.monotonic()
        member.starts += 1
        try:
            member.pid = _fork(partial(self._be, member))
        except OSError as error:  # memory may be short: of that the last one may have died
            member.starts -= 1
            member.pause = min(2 * member.pause, LONGEST_PAUSE)
            logger.error(
                "process %d cannot be started (%s); it is tried again in %.1f s.",
                member.index,
                error.strerror,
                member.pause,
            )

    def _be(self, member: ChildProcess) -> int:
        # A socket that another process has open too would not be closed when its own closes it.
        for other in self._members:
            if other is not member:
                for listener in (other.listeners[0], other.listeners[-1]):
                    listener.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        place = ProcessIdentity(member.index, tuple(self._paths), again=member.starts > 1)
        return self._work(place, member.listeners)

    def _watch(self) -> signal.Signals:
        """Start again what dies; the signal that ends it all."""
        while True:
            away = [member for member in self._members if member.pid is None]
            due = min((member.started + member.pause for member in away), default=None)
            wait = 3600.0 if due is None else max(0.0, due - time.monotonic())
            heard = signal.sigtimedwait(SIGNALS, wait)
            if heard is not None and heard.si_signo != signal.SIGCHLD:
                return signal.Signals(heard.si_signo)
            self._reap()
            for member in self._members:
                if member.pid is None and time.monotonic() >= member.started + member.pause:
                    self._start(member)

    def _reap(self) -> None:
        for member, code in self._ended():
            now = time.monotonic()
            member.pause = PAUSE if now - member.started > STEADY else min(2 * member.pause, LONGEST_PAUSE)
            member.started = now
            logger.error(
                "process %d ended with code %d; it is started again in %.1f s.", member.index, code, member.pause
            )

    def _ended(self) -> list[tuple[ChildProcess, int]]:
        """Processes that have ended since the last look, with their exit codes."""
        found = []
        for member in self._members:
            if member.pid is not None:
                pid, status = os.waitpid(member.pid, os.WNOHANG)
                if pid:
                    member.pid = None
                    found.append((member, os.waitstatus_to_exitcode(status)))
        return found

    def _stop(self) -> int:
        """End all of them; the first exit code that tells of a failure."""
        for member in self._members:
            for listener in member.listeners:
                listener.close()
        self._tell(signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        codes = []
        while any(member.pid for member in self._members):
            codes += [code for _, code in self._ended()]
            left = deadline - time.monotonic()
            if left <= 0:
                self._tell(signal.SIGKILL)
            # A second SIGINT or SIGTERM ends the wait.
            heard = signal.sigtimedwait(SIGNALS, min(max(left, 0.1), 1.0))
            if heard is not None and heard.si_signo != signal.SIGCHLD:
                deadline = 0.0
        return next((code for code in codes if code not in (0, 130, -signal.SIGTERM)), 0)

    def _tell(self, what: signal.Signals) -> None:
        for member in self._members:
            if member.pid is not None:
                os.kill(member.pid, what)


def run_in_child(work: Callable[[], int]) -> int:
    """Do it in a process of its own; its exit code."""
    _, status = os.waitpid(_fork(work), 0)
    return os.waitstatus_to_exitcode(status)


def _fork(work: Callable[[], int]) -> int:
    """The number of a new process that does `work`, exits with what it returns, and does not outlive this one."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        die_with_parent()
        if os.getppid() == parent:
            code = work()
    except SystemExit as told:
        code = told.code if isinstance(told.code, int) else 1
    except BaseException:
        logger.exception("a process of the router failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
