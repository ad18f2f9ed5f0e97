"""The error that stops a benchmark."""


class BenchError(Exception):
    """One sentence on why the benchmark cannot go on."""
