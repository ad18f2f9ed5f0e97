"""Processes that end when the process that started them dies."""

import ctypes
import signal

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)  # loaded here, since this runs between fork and exec, where other threads' locks may be held


def die_with_parent() -> None:
    """Ask Linux to send this process SIGTERM when its parent dies, for whatever reason."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
