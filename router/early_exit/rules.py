"""The early-exit rules: after each answer of a cluster, whether to abort the agents that have not answered.

A rule is one or more criteria, tried in order until one says exit. `RULES` has the criteria of each rule by the name
that configurations use. A new rule is a subclass of `Criterion` and its line in `RULES`.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct, field

from router.early_exit.agreement import Agreement, JudgeError
from router.early_exit.answers import Answer, find_answer, same_answer
from router.early_exit.decision import Decision

MAX_CHUNKS = 64  # of an answer; each is embedded by itself
Share = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at, besides the decision so far.

    Attributes:
        texts: The answers, in the order of `Decision.answers`.
        u: A number in [0, 1), drawn for this cluster and this many answers.
        measure: Asks the judge how much the answers agree; raises `JudgeError`.
    """

    texts: tuple[str, ...]
    u: float
    measure: Callable[[], Awaitable[Agreement]]


class Criterion(ABC):
    """One reason to exit. Each cluster of a run has its own instance, so it may keep state between answers.

    Attributes:
        name: What `Decision.by` says when this criterion says exit.
        needs_judge: Whether it calls `Evidence.measure`.
        rule: The configured parameters.
    """

    name: ClassVar[str]
    needs_judge: ClassVar[bool] = False

    def __init__(self, rule: "ExitRule") -> None:
        self.rule = rule

    @abstractmethod
    async def evaluate(self, evidence: Evidence, decision: Decision) -> Decision:
        """`decision` with what was found; to exit, set `exit` and `by` with `_exit`."""

    def _exit(self, decision: Decision) -> Decision:
        return replace(decision, exit=True, by=self.name)


class MajorityVote(Criterion):
    """Dynamic majority voting: exit when the remaining agents cannot overturn the leading answer."""

    name = "dmv"

    def __init__(self, rule: "ExitRule") -> None:
        super().__init__(rule)
        self._votes: dict[str, Answer | None] = {}  # by agent

    async def evaluate(self, evidence: Evidence, decision: Decision) -> Decision:
        """Sets `extracted` and `majority`."""
        for agent, text in zip(decision.answers, evidence.texts, strict=True):
            if agent not in self._votes:
                self._votes[agent] = find_answer(text)
        votes = [self._votes[agent] for agent in decision.answers]
        winner = majority(votes, decision.remaining)
        decision = replace(
            decision,
            extracted=tuple(None if vote is None else str(vote) for vote in votes),
            majority=None if winner is None else str(winner),
        )
        return decision if winner is None else self._exit(decision)


class QDraw(Criterion):
    """Exit with probability Q: when u < Q."""

    name = "q"
    needs_judge = True

    async def evaluate(self, evidence: Evidence, decision: Decision) -> Decision:
        """Sets C, P, B, Q, S and u; `problem` when there is no usable Q."""
        decision = replace(decision, u=self.draw(evidence))
        try:
            found = await evidence.measure()
        except JudgeError as error:
            return replace(decision, problem=str(error))
        problem = "Q is not a number: a confidence or an embedding is none" if math.isnan(found.Q) else None
        decision = replace(decision, C=found.C, P=found.P, B=found.B, Q=found.Q, S=found.S, problem=problem)
        return self._exit(decision) if self.says_exit(found.Q, decision.u) else decision

    def draw(self, evidence: Evidence) -> float | None:
        """The number that Q is compared with; None where none is drawn."""
        return evidence.u

    def says_exit(self, q: float, u: float | None) -> bool:
        """Whether Q says exit; never for NaN."""
        return u is not None and u < q


class QThreshold(QDraw):
    """Exit when Q reaches `q_min`."""

    def draw(self, evidence: Evidence) -> None:
        """Nothing is drawn."""

    def says_exit(self, q: float, u: float | None) -> bool:
        """Whether Q says exit; never for NaN."""
        return q >= self.rule.q_min


class Replay(Criterion):
    """Exit as given beforehand, whatever the answers say: to repeat decisions of another run, or to draw them."""

    name = "replay"

    async def evaluate(self, evidence: Evidence, decision: Decision) -> Decision:
        """Compares the number of answers with the cluster's own in `exits`."""
        answers = self.rule.exits.get(decision.cluster, math.inf)
        return self._exit(decision) if len(decision.answers) >= answers else decision


RULES: dict[str, tuple[type[Criterion], ...]] = {
    "q_draw": (QDraw,),
    "q_threshold": (QThreshold,),
    "dmv": (MajorityVote,),
    "both": (MajorityVote, QDraw),
    "replay": (Replay,),
}

if TYPE_CHECKING:
    RuleName = str
else:
    RuleName = Literal[tuple(RULES)]  # so that configurations are checked against the registered names


class ExitRule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The configured rule of a tree or cluster.

    Attributes:
        rule: What decides.
        gamma: Weight of confidence against agreement in Q.
        tau: The agreement P at which B is 1.
        q_min: Least Q at which `q_threshold` exits.
        m: Chunks in which an answer is embedded; with `pooled` only.
        similarity: `pooled` compares embeddings of answers, `correlation` the hidden states of their tokens.
        least: Answers there must be before anything is decided.
        exits: For `replay`: by cluster, after how many answers it exits; the others do not.
    """

    rule: RuleName = "q_draw"
    gamma: Share = 0.5
    tau: Share = 0.7
    q_min: Share = 0.5
    m: Annotated[int, Meta(ge=1, le=MAX_CHUNKS)] = 1
    similarity: Literal["pooled", "correlation"] = "pooled"
    least: Annotated[int, Meta(ge=2)] = 2
    exits: dict[str, Annotated[int, Meta(ge=2)]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.similarity == "correlation" and self.m != 1:
            raise ValueError("m divides embeddings, which correlation does not use: leave m out, or pool")

    @property
    def needs_judge(self) -> bool:
        """Whether a criterion of the rule asks the judge."""
        return any(criterion.needs_judge for criterion in RULES[self.rule])

    def criteria(self) -> tuple[Criterion, ...]:
        """New criteria, for one cluster of one run."""
        return tuple(criterion(self) for criterion in RULES[self.rule])


def draws(seed: int | str, cluster: str, count: int) -> list[float]:
    """`count` numbers in [0, 1) that depend only on the run's seed and the cluster's name."""
    generator = Random(f"{seed}:{cluster}")
    return [generator.random() for _ in range(count)]


def majority(votes: Iterable[Answer | None], remaining: int) -> Answer | None:
    """The answer with surely more votes than any other can still reach, if there is one. None is no vote.

    Where votes of one value are of different subjects ("3 boys", "3 girls"), those without a subject ("3") may support
    each of them: so they count for none of them, but against all others.
    """
    values: defaultdict[Answer, list[Answer]] = defaultdict(list)
    for vote in votes:
        if vote is not None:
            values[replace(vote, subject="")].append(vote)
    ranked = sorted(values.items(), key=lambda item: len(item[1]), reverse=True)
    if not ranked:
        return None
    winner, supporters = ranked[0]
    sure, most = len(supporters), len(ranked[1][1]) if len(ranked) > 1 else 0
    subjects = Counter(vote.subject for vote in supporters if vote.subject).most_common(1)
    if subjects and any(not same_answer(a, b) for a in supporters for b in supporters):
        subject, sure = subjects[0]
        winner, most = replace(winner, subject=subject), max(most, len(supporters) - sure)
    return winner if sure > most + remaining else None
