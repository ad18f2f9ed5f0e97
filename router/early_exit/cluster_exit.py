"""One cluster of a run: after each answer, whether to wait for the others."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from router.early_exit.agreement import AgreementJudge, JudgeError
from router.early_exit.answer_extraction import extract_answer
from router.early_exit.rules import Decision, ExitRule, draws, majority, says_exit


class ClusterExit:
    """Decides for one cluster of one run.

    u is drawn from the seed, the cluster's name and how many answers there are. So neither what other clusters do
    nor when the judge answers changes a draw, and asking twice about the same answers is no second chance. (Q itself
    varies by about 1e-6 with what else was embedded in the same batch.)

    Args:
        rule: The rule.
        cluster: The cluster's name.
        agents: Names of all its agents.
        seed: The run's.
        judge: Asked for Q; a rule that only counts votes needs none and never asks it.
        timeout: Seconds the judge may take for one decision.
    """

    def __init__(
        self,
        rule: ExitRule,
        cluster: str,
        agents: Sequence[str],
        seed: int | str,
        judge: AgreementJudge | None,
        timeout: float = 5.0,
    ) -> None:
        if judge is None and rule.measures:
            raise ValueError(f"rule {rule.rule} of cluster {cluster} needs a judge: pass one, or use dmv")
        self._rule = rule
        self._cluster = cluster
        self._agents = frozenset(agents)
        self._judge = judge
        self._timeout = timeout
        self._draws = draws(seed, cluster, len(agents))
        self._extracted: dict[str, str | None] = {}

    async def consider(self, finished: Mapping[str, tuple[str, float]], remaining: int) -> Decision | None:
        """Decide; None with fewer answers than the rule's `least`, or when no agent remains.

        `finished`: agent -> (answer, confidence), in order of completion; NaN for an unknown confidence, which
        measures as "do not exit". `remaining`: agents that still run or wait. A judge that fails is the decision's
        `problem`. Raises ValueError for an agent that is not of the cluster.
        """
        strangers = finished.keys() - self._agents
        if strangers:
            raise ValueError(f"agent {min(strangers)} is not of cluster {self._cluster}: pass only its own answers")
        if len(finished) < self._rule.least or remaining <= 0:
            return None
        began = time.monotonic()
        decision = Decision(
            cluster=self._cluster,
            rule=self._rule.rule,
            exit=False,
            by=None,
            answers=tuple(finished),
            remaining=remaining,
            confidences=tuple(confidence for _, confidence in finished.values()),
        )
        if self._rule.votes:
            decision = self._vote(decision, finished)
        if self._rule.measures and not decision.exit:
            u = None if self._rule.rule == "q_threshold" else self._draws[len(finished) - 1]
            decision = await self._measure(replace(decision, u=u), finished)
        return replace(decision, seconds=time.monotonic() - began)

    def _vote(self, decision: Decision, finished: Mapping[str, tuple[str, float]]) -> Decision:
        for name, (text, _) in finished.items():
            if name not in self._extracted:
                self._extracted[name] = extract_answer(text)
        extracted = tuple(self._extracted[name] for name in finished)
        winner = majority(extracted, decision.remaining)
        leaves = winner is not None
        return replace(decision, extracted=extracted, majority=winner, exit=leaves, by="dmv" if leaves else None)

    async def _measure(self, decision: Decision, finished: Mapping[str, tuple[str, float]]) -> Decision:
        assert self._judge is not None
        rule = self._rule
        texts = [text for text, _ in finished.values()]
        try:
            found = await self._judge.agreement(
                texts, decision.confidences, rule.gamma, rule.tau, rule.m, within=self._timeout
            )
        except JudgeError as failure:
            return replace(decision, problem=str(failure))
        leave = says_exit(rule, found.Q, decision.u)
        return replace(
            decision,
            C=found.C,
            P=found.P,
            B=found.B,
            Q=found.Q,
            S=found.S,
            exit=leave,
            by="q" if leave else None,
            problem="Q is not a number: a confidence or an embedding is none" if math.isnan(found.Q) else None,
        )
