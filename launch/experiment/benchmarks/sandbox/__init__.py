"""Runs a model's code in a process of its own that reaches nothing: `run_code`; `isolation` tells how strong it is."""

from launch.experiment.benchmarks.sandbox.outcome import Limits, Outcome
from launch.experiment.benchmarks.sandbox.run import Isolation, isolation, require, run_code

__all__ = ["Isolation", "Limits", "Outcome", "isolation", "require", "run_code"]
