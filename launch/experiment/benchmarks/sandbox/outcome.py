"""What code in the sandbox may use, and what came of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What code may use.

    Attributes:
        cpu_s: Seconds of CPU time, whole ones.
        wall_s: Seconds on the clock; more than `cpu_s`, since other work may have the CPU.
        memory_mb: MiB of address space.
        files_mb: MiB of files, all in memory and gone afterwards.
    """

    cpu_s: int = 10
    wall_s: float = 60.0
    memory_mb: int = 1024
    files_mb: int = 16


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        passed: Whether all the code ran to its end without an exception.
        reason: Why not, in a few words; "" where it did.
    """

    passed: bool
    reason: str = ""
