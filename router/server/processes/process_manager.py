"""Runs several processes on one port: forks them, restarts those that die, and stops all of them together."""

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

from router.server.processes.parent_death_signal import die_with_parent
from router.server.processes.sockets import listen_many, listen_on_other_ports, listen_privately
from router.server.settings import ServerSettings

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)
MIN_BACKOFF, MAX_BACKOFF = 0.1, 5.0  # seconds before a process that died is restarted
STABLE_AFTER = 60.0  # seconds of uptime after which the backoff starts again at its minimum
STOP_MARGIN = 5.0  # seconds beyond the grace period before a process is killed


@dataclass(frozen=True)
class ProcessIdentity:
    """What a process knows of itself and of the other processes.

    Attributes:
        index: Its number, from 0.
        paths: The private Unix socket of each process, by index.
        restarted: Whether it has died before, so that the others know changes that it has missed.
    """

    index: int
    paths: tuple[Path, ...]
    restarted: bool


@dataclass
class ChildProcess:
    """One process, as its manager sees it.

    Attributes:
        index: Its number, from 0.
        listeners: Its sockets. They stay open in the manager, so connections wait while the process is restarted.
        pid: The running process; None while there is none.
        changed_at: When it was last started or died, on the monotonic clock.
        starts: How often it was started.
        backoff: Seconds from `changed_at` until it is restarted.
    """

    index: int
    listeners: list[socket.socket]
    pid: int | None = None
    changed_at: float = 0.0
    starts: int = 0
    backoff: float = MIN_BACKOFF


class NoPrivateSockets(OSError):
    """There is no folder for the sockets over which processes speak to each other."""


class ProcessManager:
    """Runs `serve` in several forked processes. The process that forks must have no other threads.

    Args:
        server: Address, port and grace period.
        count: Number of processes.
        serve: Serves on the sockets it gets, and returns the exit code.

    Raises:
        NoPrivateSockets: The private sockets cannot be created.
        OSError: The port is taken.
    """

    def __init__(
        self, server: ServerSettings, count: int, serve: Callable[[ProcessIdentity, list[socket.socket]], int]
    ) -> None:
        self._serve = serve
        self._stop_timeout = server.grace_secs + STOP_MARGIN
        self._children: list[ChildProcess] = []
        self._folder, private_listeners = _listen_privately(count)
        self._paths = [self._folder / str(index) for index in range(count)]
        try:
            port_listeners = listen_many(server.host, server.port, count)
            other_listeners = listen_on_other_ports(server)
        except OSError:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        for index, (listener, private) in enumerate(zip(port_listeners, private_listeners, strict=True)):
            self._children.append(ChildProcess(index, [listener, *other_listeners, private]))

    def run(self) -> int:
        """Run until SIGINT or SIGTERM; return the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            for child in self._children:
                self._start(child)
            stop_signal = self._watch()
            return self._stop() or (130 if stop_signal == signal.SIGINT else 0)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, child: ChildProcess) -> None:
        child.changed_at = time.monotonic()
        child.starts += 1
        try:
            child.pid = _fork(partial(self._run_child, child))
        except OSError as error:  # memory may be short, which may be why the last one died
            child.starts -= 1
            child.backoff = min(2 * child.backoff, MAX_BACKOFF)
            logger.error(
                "process %d cannot be started (%s); it is tried again in %.1f s.",
                child.index,
                error.strerror,
                child.backoff,
            )

    def _run_child(self, child: ChildProcess) -> int:
        # A socket is closed only once every process that has it has closed it; those of the metrics port are shared.
        for other in self._children:
            if other is not child:
                for listener in (other.listeners[0], other.listeners[-1]):
                    listener.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        identity = ProcessIdentity(child.index, tuple(self._paths), restarted=child.starts > 1)
        return self._serve(identity, child.listeners)

    def _watch(self) -> signal.Signals:
        """Restart processes that die, until SIGINT or SIGTERM; return that signal."""
        while True:
            dead = [child for child in self._children if child.pid is None]
            restart_at = min((child.changed_at + child.backoff for child in dead), default=None)
            timeout = 3600.0 if restart_at is None else max(0.0, restart_at - time.monotonic())
            received = signal.sigtimedwait(SIGNALS, timeout)
            if received is not None and received.si_signo != signal.SIGCHLD:
                return signal.Signals(received.si_signo)
            self._schedule_restarts()
            for child in self._children:
                if child.pid is None and time.monotonic() >= child.changed_at + child.backoff:
                    self._start(child)

    def _schedule_restarts(self) -> None:
        for child, code in self._reap():
            now = time.monotonic()
            child.backoff = (
                MIN_BACKOFF if now - child.changed_at > STABLE_AFTER else min(2 * child.backoff, MAX_BACKOFF)
            )
            child.changed_at = now
            logger.error(
                "process %d ended with code %d; it is started again in %.1f s.", child.index, code, child.backoff
            )

    def _reap(self) -> list[tuple[ChildProcess, int]]:
        """Processes that have ended since the last call, with their exit codes."""
        ended = []
        for child in self._children:
            if child.pid is not None:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    child.pid = None
                    ended.append((child, os.waitstatus_to_exitcode(status)))
        return ended

    def _stop(self) -> int:
        """Stop all processes; return the first exit code of a failure, or 0."""
        for child in self._children:
            for listener in child.listeners:
                listener.close()
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self._stop_timeout
        codes = []
        while any(child.pid for child in self._children):
            codes += [code for _, code in self._reap()]
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                self._signal_all(signal.SIGKILL)
            # A second SIGINT or SIGTERM ends the wait.
            received = signal.sigtimedwait(SIGNALS, min(max(remaining, 0.1), 1.0))
            if received is not None and received.si_signo != signal.SIGCHLD:
                deadline = 0.0
        return next((code for code in codes if code not in (0, 130, -signal.SIGTERM)), 0)

    def _signal_all(self, number: signal.Signals) -> None:
        for child in self._children:
            if child.pid is not None:
                os.kill(child.pid, number)


def _listen_privately(count: int) -> tuple[Path, list[socket.socket]]:
    """A folder, and a listening socket there for each process."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="router-"))
    except OSError as error:
        raise NoPrivateSockets(error.errno, f"TMPDIR names no folder for sockets ({error.strerror})") from None
    try:
        return folder, [listen_privately(folder / str(index)) for index in range(count)]
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise NoPrivateSockets(error.errno, error.strerror) from None


def run_in_child(function: Callable[[], int]) -> int:
    """Call a function in a forked process; return its exit code."""
    _, status = os.waitpid(_fork(function), 0)
    return os.waitstatus_to_exitcode(status)


def _fork(function: Callable[[], int]) -> int:
    """Fork a process that exits with what `function` returns, and ends when this one dies; return its pid."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        die_with_parent()
        if os.getppid() == parent:
            code = function()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 1
    except BaseException:
        logger.exception("a process of the router failed")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
