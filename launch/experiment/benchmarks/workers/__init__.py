"""Libraries that score answers, each in a process of its own: `MATHEMATICS` and `INSTRUCTIONS`."""

from launch.experiment.benchmarks.workers.worker import Worker

MATHEMATICS = Worker("launch.experiment.benchmarks.workers.mathematics")
INSTRUCTIONS = Worker("launch.experiment.benchmarks.workers.instructions")

__all__ = ["INSTRUCTIONS", "MATHEMATICS", "Worker"]
