"""A machine with four large GPUs, for suites that give each server one; the servers are stand-ins and use none."""

from types import SimpleNamespace

COUNT, BYTES = 4, 80 << 30


class NVMLError(Exception):
    """Never raised."""


def nvmlInit() -> None:
    """Nothing to begin."""


def nvmlShutdown() -> None:
    """Nothing to end."""


def nvmlDeviceGetCount() -> int:
    """How many."""
    return COUNT


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    """A GPU is its number."""
    return index


def nvmlDeviceGetName(handle: int) -> str:
    """No real one."""
    return f"stand-in {handle}"


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:
    """All of it is free."""
    return SimpleNamespace(total=BYTES, free=BYTES, used=0)
