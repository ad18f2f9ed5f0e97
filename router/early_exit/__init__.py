"""Early exit: a cluster whose answers agree and are sure does not wait for its last agents.

A run has one `ClusterExit` for each cluster with an `ExitRule`; all runs share one `Judge`.
"""

from router.early_exit.agreement import Agreement, AgreementJudge, JudgeError
from router.early_exit.answer_extraction import extract_answer
from router.early_exit.cluster_exit import ClusterExit
from router.early_exit.confidence import Confidence, confidence
from router.early_exit.judge import Judge
from router.early_exit.rules import Decision, ExitRule

__all__ = [
    "Agreement",
    "AgreementJudge",
    "ClusterExit",
    "Confidence",
    "Decision",
    "ExitRule",
    "Judge",
    "JudgeError",
    "confidence",
    "extract_answer",
]
