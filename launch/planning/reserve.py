"""The part of each GPU that no server gets."""

from launch.machine.gpus import Gpu

RESERVED_FRACTION = 0.02
"""Share of each GPU's memory for fragmentation and the error of the estimates."""


def reserved_bytes(gpu: Gpu) -> int:
    """Bytes of a GPU that the plan gives to no server."""
    return int(gpu.total_bytes * RESERVED_FRACTION)


def available_bytes(gpu: Gpu) -> int:
    """Bytes of a GPU that the plan may give to servers."""
    return max(0, gpu.free_bytes - reserved_bytes(gpu))
