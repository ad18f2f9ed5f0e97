"""When a cluster exits: votes, draws and thresholds, and what is kept of a decision."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.structs import InvalidValue, read_struct
from router.early_exit import (
    Agreement,
    Answer,
    AnswerKind,
    ClusterExit,
    Confidence,
    Decision,
    ExitRule,
    JudgeError,
    confidence,
    same_answer,
)
from router.early_exit.agreement import balance
from router.early_exit.rules import RULES, QDraw, draws, majority


def number(normal: str, subject: str = "") -> Answer:
    return Answer(AnswerKind.NUMBER, normal, subject)


VOTE = st.none() | st.builds(number, st.sampled_from(["3", "4"]), st.sampled_from(["", "eggs", "ducks"]))
VOTES = st.lists(VOTE, max_size=9)


class Fixed:
    """A judge of one answer (a fake: a chosen Q cannot be had from real texts)."""

    def __init__(self, q: float = 0.5, fails: bool = False) -> None:
        self.q, self.fails, self.asked = q, fails, 0
        self.similarity = ""

    async def agreement(
        self,
        texts: Sequence[str],
        confidences: Sequence[float],
        gamma: float = 0.5,
        tau: float = 0.7,
        m: int = 1,
        similarity: str = "pooled",
        *,
        within: float = 10.0,
    ) -> Agreement:
        self.asked += 1
        self.similarity = similarity
        if self.fails:
            raise JudgeError("it is away")
        return Agreement(0.5, 0.7, 1.0, self.q, [[1.0] * len(texts)] * len(texts))

    async def close(self) -> None: ...


def consider(
    rule: ExitRule, said: dict[str, tuple[str, float]], remaining: int, judge: Fixed | None, seed: int = 1
) -> Decision | None:
    agents = [*said, *(f"more-{i}" for i in range(remaining))]
    return asyncio.run(ClusterExit(rule, "c", agents, seed, judge).consider(said, remaining))


TWO = {"a": ("The answer is 4.", 0.9), "b": ("I say it is 4", 0.5)}


# ---- votes


def supporters(vote: Answer, votes: list[Answer | None]) -> list[Answer]:
    return [other for other in votes if other is not None and same_answer(vote, other)]


@given(VOTES, st.lists(VOTE, max_size=5))
def test_an_early_majority_is_the_full_vote(said: list[Answer | None], rest: list[Answer | None]) -> None:
    """Whatever the remaining agents say, and whatever is meant by votes that do not say what they are of."""
    early = majority(said, len(rest))
    if early is not None:
        everyone = said + rest
        sure = [vote for vote in supporters(early, said) if all(same_answer(vote, o) for o in supporters(early, said))]
        opposed = [vote for vote in everyone if vote is not None and not same_answer(early, vote)]
        assert all(len(sure) > len(supporters(other, [v for v in everyone if v not in sure])) for other in opposed)


@given(st.lists(st.sampled_from([None, number("3"), number("4"), number("5")]), max_size=9), st.integers(1, 5))
def test_no_majority_means_that_it_can_still_turn(said: list[Answer | None], remaining: int) -> None:
    if majority(said, remaining) is None:
        counts = sorted(Counter(vote for vote in said if vote is not None).values())
        assert max(counts, default=0) <= max(counts[:-1], default=0) + remaining


FOUR, FIVE = number("4"), number("5")


@pytest.mark.parametrize(
    ("said", "remaining", "winner"),
    [
        ([FOUR, FOUR], 1, FOUR),
        ([FOUR, FOUR], 2, None),
        ([FOUR, FIVE], 1, None),
        ([None, None], 0, None),
        ([FOUR, None], 0, FOUR),
        ([FOUR, number("4", "eggs")], 1, FOUR),
        ([number("4", "eggs"), number("4", "ducks")], 1, None),
        ([FOUR, number("4", "eggs"), number("4", "ducks")], 1, None),
        ([number("4", "eggs")] * 4 + [number("4", "ducks"), FOUR], 1, number("4", "eggs")),
        ([number("4", "eggs")] * 3 + [number("4", "ducks"), FOUR], 1, None),
    ],
)
def test_majorities(said: list[Answer | None], remaining: int, winner: Answer | None) -> None:
    assert majority(said, remaining) == winner


def test_votes_need_no_judge() -> None:
    decision = consider(ExitRule(rule="dmv"), TWO, 1, None)
    assert decision is not None
    assert (decision.exit, decision.by, decision.majority, decision.extracted) == (True, "dmv", "4", ("4", "4"))
    with pytest.raises(ValueError, match="rule q_draw of cluster c needs a judge"):
        ClusterExit(ExitRule(), "c", ["a"], 1, None)


def test_both_asks_the_judge_only_where_votes_do_not_settle_it() -> None:
    judge = Fixed(q=1.0)
    settled = consider(ExitRule(rule="both"), TWO, 1, judge)
    assert settled is not None
    assert (settled.by, judge.asked) == ("dmv", 0)
    open_vote = consider(ExitRule(rule="both"), TWO, 3, judge)
    assert open_vote is not None
    assert (open_vote.by, open_vote.exit, judge.asked) == ("q", True, 1)


# ---- Q


def test_the_rule_says_by_what_answers_are_compared() -> None:
    for fields, wanted in (({}, "pooled"), ({"similarity": "correlation"}, "correlation")):
        judge = Fixed()
        consider(read_struct(ExitRule, fields), TWO, 1, judge)
        assert judge.similarity == wanted
    with pytest.raises(InvalidValue, match="expected 'correlation' or 'pooled', got 'cosine'"):
        read_struct(ExitRule, {"similarity": "cosine"})
    with pytest.raises(InvalidValue, match="m divides embeddings, which correlation does not use"):
        read_struct(ExitRule, {"similarity": "correlation", "m": 2})


@given(st.integers(0, 2**32), st.text(max_size=8), st.integers(1, 9))
def test_draws_depend_on_the_seed_and_the_cluster_only(seed: int, cluster: str, count: int) -> None:
    first = draws(seed, cluster, count)
    assert first == draws(seed, cluster, count + 3)[:count]
    assert all(0 <= u < 1 for u in first)


def test_a_seed_reproduces_decisions() -> None:
    found = [consider(ExitRule(), TWO, 1, Fixed(q=0.5), seed) for seed in (7, 7, 8, 9, 10, 11, 12)]
    drawn = [decision.u for decision in found if decision is not None]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 6
    for decision in found:
        assert decision is not None
        assert decision.u is not None
        assert decision.exit == (decision.u < 0.5)


@pytest.mark.parametrize(("q", "leaves"), [(0.5, True), (0.49, False), (math.nan, False)])
def test_the_threshold(q: float, leaves: bool) -> None:
    decision = consider(ExitRule(rule="q_threshold", q_min=0.5), TWO, 1, Fixed(q=q))
    assert decision is not None
    assert (decision.exit, decision.u) == (leaves, None)
    assert QDraw(ExitRule()).says_exit(math.nan, 0.0) is False


def test_what_cannot_be_measured_does_not_exit() -> None:
    failed = consider(ExitRule(), TWO, 1, Fixed(fails=True))
    assert failed is not None
    assert (failed.exit, failed.problem, failed.Q) == (False, "it is away", None)
    unknown = consider(ExitRule(rule="q_threshold", q_min=0.0), {**TWO, "b": ("4", math.nan)}, 1, Fixed(q=math.nan))
    assert unknown is not None
    assert not unknown.exit
    assert unknown.to_json()["confidences"] == [0.9, None]
    assert unknown.to_json()["Q"] is None


@pytest.mark.parametrize(("said", "remaining"), [({"a": ("4", 0.9)}, 2), (TWO, 0)])
def test_nothing_to_decide(said: dict[str, tuple[str, float]], remaining: int) -> None:
    assert consider(ExitRule(), said, remaining, Fixed()) is None


def test_a_stranger_is_refused() -> None:
    gate = ClusterExit(ExitRule(rule="dmv"), "c", ["a", "b"], 1, None)
    with pytest.raises(ValueError, match="agent x is not of cluster c"):
        asyncio.run(gate.consider({"x": ("4", 0.5), "a": ("4", 0.5)}, 1))


@pytest.mark.parametrize(
    ("p", "tau", "b"), [(0.7, 0.7, 1.0), (1.0, 0.7, 1 - 0.3 / 0.7), (0.0, 0.7, 0.0), (-1.0, 0.7, 0.0)]
)
def test_balance(p: float, tau: float, b: float) -> None:
    assert balance(p, tau) == pytest.approx(b)


@pytest.mark.parametrize("wrong", [{"rule": "vote"}, {"tau": 1.5}, {"gamma": -0.1}, {"m": 0}, {"least": 1}, {"x": 1}])
def test_wrong_rules(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidValue):
        read_struct(ExitRule, wrong)


@pytest.mark.parametrize("name", RULES)
def test_every_registered_rule_can_be_configured(name: str) -> None:
    rule = read_struct(ExitRule, {"rule": name})
    assert [type(criterion) for criterion in rule.criteria()] == list(RULES[name])
    assert rule.needs_judge == (name not in ("dmv", "replay"))


# ---- confidence


@given(st.lists(st.floats(-60, 0), min_size=1, max_size=50))
def test_confidence_is_in_range_and_adds_up(logprobs: list[float]) -> None:
    found = confidence(logprobs)
    assert 0 < found <= 1
    assert found == pytest.approx(math.exp(sum(logprobs) / len(logprobs)), rel=1e-6)
    piecewise = Confidence()
    for each in logprobs:
        piecewise.add(each)
    assert piecewise.value == found


@pytest.mark.parametrize("wrong", [[], [math.nan], [0.5]])
def test_no_confidence(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match=r"confidence|log-probability"):
        confidence(wrong)


def test_an_impossible_token_leaves_a_positive_confidence() -> None:
    assert 0 < confidence([-math.inf]) < 1e-30
