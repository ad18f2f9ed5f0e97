"""Processes that end when the process that started them dies."""

import ctypes
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)  # loaded here, since this runs between fork and exec, where other threads' locks may be held


def die_with_parent() -> None:
    """Ask Linux to send this process SIGTERM when its parent dies, for whatever reason."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def start_child(command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes]":
    """`subprocess.Popen` of a command of our own, with a process that gets SIGTERM when this one dies."""
    # Between fork and exec there is one system call, and no lock.
    return subprocess.Popen(command, preexec_fn=die_with_parent, **options)  # noqa: PLW1509, S603
