"""Early exit: a cluster whose answers agree with confidence does not wait for its remaining agents.

A run has one `ClusterExit` for each cluster with an `ExitRule`. All runs share one `Judge`.
"""

from router.early_exit.agreement import Agreement, AgreementJudge, JudgeError
from router.early_exit.answers import Answer, AnswerKind, find_answer, same_answer
from router.early_exit.cluster_exit import ClusterExit
from router.early_exit.confidence import Confidence, confidence
from router.early_exit.decision import Decision
from router.early_exit.judge import Judge
from router.early_exit.judge_protocol import BUILTIN_MODEL
from router.early_exit.rules import ExitRule

__all__ = [
    "BUILTIN_MODEL",
    "Agreement",
    "AgreementJudge",
    "Answer",
    "AnswerKind",
    "ClusterExit",
    "Confidence",
    "Decision",
    "ExitRule",
    "Judge",
    "JudgeError",
    "confidence",
    "find_answer",
    "same_answer",
]
