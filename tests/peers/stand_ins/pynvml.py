"""A machine with four large GPUs, for suites that give each server one; the servers are stand-ins and use none."""

from types import SimpleNamespace

COUNT, BYTES = 4, 80 << 30


class NVMLError(Exception):
    """Never raised."""


def nvmlInit() -> None:  # noqa: N802
    """Nothing to begin."""


def nvmlShutdown() -> None:  # noqa: N802
    """Nothing to end."""


def nvmlDeviceGetCount() -> int:  # noqa: N802
    """How many."""
    return COUNT


def nvmlDeviceGetHandleByIndex(index: int) -> int:  # noqa: N802
    """A GPU is its number."""
    return index


def nvmlDeviceGetName(handle: int) -> str:  # noqa: N802
    """No real one."""
    return f"stand-in {handle}"


def nvmlDeviceGetMemoryInfo(handle: int) -> SimpleNamespace:  # noqa: N802
    """All of it is free."""
    return SimpleNamespace(total=BYTES, free=BYTES, used=0)
