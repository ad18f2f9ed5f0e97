"""What the benchmarks raise.

BenchmarkError          the command prints it and exits with code 2
├── DataError           a data set is missing or not in its published form
├── MissingPackage      a library that scores the benchmark is not installed
├── SandboxError        the kernel allows no sandbox that is strong enough for a model's code
└── Unscorable          this question's answers cannot be scored here
"""

from launch.errors import LaunchError


class BenchmarkError(LaunchError):
    """A benchmark that cannot be run or scored; the message is one sentence that says why and what to do."""


class DataError(BenchmarkError):
    """A data set is missing, or a file has not its published form."""


class MissingPackage(BenchmarkError):
    """A library that scores the benchmark is not installed."""


class SandboxError(BenchmarkError):
    """The kernel allows no sandbox that is strong enough for a model's code."""


class Unscorable(BenchmarkError):
    """No library here can score this question's answers; they are refused rather than scored wrongly."""
