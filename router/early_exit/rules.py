"""When a cluster exits early: the rules, and what is kept of each decision. Pure and synchronous.

`q_draw` exits with probability Q, `q_threshold` when Q reaches `q_min`, `dmv` (dynamic majority voting) as soon as
no remaining agent can change which answer most agents gave, and `both` by whichever of `q_draw` and `dmv` comes
first. The formulas are those of `design.md` section 6.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

Share = Annotated[float, Meta(ge=0, le=1)]


class ExitRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configured rule of a tree or cluster.

    Attributes:
        rule: What decides.
        gamma: Weight of confidence against agreement in Q.
        tau: The agreement P at which B is 1.
        q_min: Least Q at which `q_threshold` exits.
        m: Chunks in which an answer is embedded.
        least: Answers there must be before anything is decided.
    """

    rule: Literal["q_draw", "q_threshold", "dmv", "both"] = "q_draw"
    gamma: Share = 0.5
    tau: Share = 0.7
    q_min: Share = 0.5
    m: Annotated[int, Meta(ge=1)] = 1
    least: Annotated[int, Meta(ge=2)] = 2

    @property
    def votes(self) -> bool:
        """Whether extracted answers vote."""
        return self.rule in ("dmv", "both")

    @property
    def measures(self) -> bool:
        """Whether Q takes part."""
        return self.rule != "dmv"


@dataclass(frozen=True)
class Decision:
    """Whether a cluster exits, and why.

    Attributes:
        cluster: Its name.
        rule: The configured rule.
        exit: Whether to abort the agents that have not answered.
        by: What said exit; None when nothing did.
        answers: Names of the agents that had answered, in order of completion.
        remaining: Agents that had not.
        confidences: Of the answers; NaN where unknown.
        extracted: What each answer votes for, None where nothing was found; empty unless votes count.
        majority: The answer that can no longer be outvoted.
        C, P, B, Q, S: As in `Agreement`; None where the judge was not asked or failed.
        u: The number in [0, 1) drawn for this decision; None where the rule draws none.
        problem: Why Q could not count, as one sentence.
        seconds: How long it took to decide.
    """

    cluster: str
    rule: str
    exit: bool
    by: Literal["q", "dmv"] | None
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
        """The decision as it stands in a trace; NaN is null, since JSON has none."""
        told: dict[str, Any] = _without_nan(asdict(self))
        return told


def balance(p: float, tau: float) -> float:
    """B = max(0, 1 - |P - tau| / max(tau, 1 - tau)), in [0, 1]; NaN when P is."""
    if math.isnan(p):
        return p
    return max(0.0, 1.0 - abs(p - tau) / max(tau, 1.0 - tau))


def draws(seed: int | str, cluster: str, count: int) -> list[float]:
    """`count` numbers in [0, 1) that depend on nothing but the run's seed and the cluster's name."""
    generator = Random(f"{seed}:{cluster}")
    return [generator.random() for _ in range(count)]


def says_exit(rule: ExitRule, q: float, u: float | None) -> bool:
    """Whether Q says exit under a rule that measures it, u being drawn unless a threshold decides; a NaN never does."""
    return q >= rule.q_min if u is None else u < q


def majority(extracted: Iterable[str | None], remaining: int) -> str | None:
    """The answer with more votes than any other could still get, if there is one; None votes for nothing."""
    ranked = Counter(answer for answer in extracted if answer is not None).most_common(2)
    if not ranked:
        return None
    runner_up = ranked[1][1] if len(ranked) > 1 else 0
    answer, votes = ranked[0]
    return answer if votes > runner_up + remaining else None


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
