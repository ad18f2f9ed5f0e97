"""Early exit: a cluster whose answers agree and are sure does not wait for its last agents.

A run has one `ClusterExit` for each cluster with an `ExitRule`; all runs share one `Judge`.
"""

from router.exit.agreement import Agreement, JudgeFailed, Judging
from router.exit.cluster import ClusterExit
from router.exit.confidence import Confidence, confidence
from router.exit.extract import extract
from router.exit.judge import Judge
from router.exit.rules import Decision, ExitRule

__all__ = [
    "Agreement",
    "ClusterExit",
    "Confidence",
    "Decision",
    "ExitRule",
    "Judge",
    "JudgeFailed",
    "Judging",
    "confidence",
    "extract",
]
