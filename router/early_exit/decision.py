"""The record of one early-exit decision, as it stands in a run's trace."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Decision:
    """Whether a cluster exits, and why.

    Attributes:
        cluster: The cluster's name.
        rule: The configured rule.
        exit: Whether to abort the agents that have not answered.
        by: The criterion that said exit (`q` or `dmv`); None when none did.
        answers: Names of the agents that have answered, in order of completion.
        remaining: How many agents have not answered.
        confidences: One for each answer, in (0, 1]; NaN where unknown.
        extracted: What each answer votes for, None where nothing was found; empty unless votes are counted.
        majority: The answer that can no longer be outvoted.
        C, P, B, Q, S: As in `Agreement`; None when the judge was not asked or failed.
        u: The number in [0, 1) that Q was compared with; None for rules that draw none.
        problem: Why Q could not be used, as one sentence.
        seconds: How long the decision took.
    """

    cluster: str
    rule: str
    exit: bool
    by: str | None
    answers: tuple[str, ...]
    remaining: int
    confidences: tuple[float, ...]
    extracted: tuple[str | None, ...] = ()
    majority: str | None = None
    C: float | None = None
    P: float | None = None
    B: float | None = None
    Q: float | None = None
    S: list[list[float]] | None = field(default=None, hash=False)
    u: float | None = None
    problem: str | None = None
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The decision for a trace. NaN becomes null, since JSON has no NaN."""
        fields: dict[str, Any] = _nan_to_none(asdict(self))
        return fields


def _nan_to_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _nan_to_none(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_nan_to_none(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
