"""Early exit of one cluster of a run: applies its rule after each answer."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from router.early_exit.agreement import Agreement, AgreementJudge
from router.early_exit.decision import Decision
from router.early_exit.rules import Evidence, ExitRule, draws


class ClusterExit:
    """Decides for one cluster of one run.

    The draw u depends on the seed, the cluster's name and the number of answers alone. So neither other clusters nor
    the judge's timing change it, and deciding twice on the same answers is no second chance. (Q itself varies by
    about 1e-6 with what else was embedded in the same batch.)

    Args:
        rule: The rule.
        cluster: The cluster's name.
        agents: Names of all its agents.
        seed: The run's seed.
        judge: Measures Q; may be None for a rule that only counts votes.
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
        if judge is None and rule.needs_judge:
            raise ValueError(f"rule {rule.rule} of cluster {cluster} needs a judge: pass one, or use dmv")
        self._rule = rule
        self._criteria = rule.criteria()
        self._cluster = cluster
        self._agents = frozenset(agents)
        self._judge = judge
        self._timeout = timeout
        self._draws = draws(seed, cluster, len(agents))

    async def consider(self, finished: Mapping[str, tuple[str, float]], remaining: int) -> Decision | None:
        """Decide; None with fewer answers than the rule's `least`, or when no agent remains.

        A judge that fails is the decision's `problem`, and the cluster does not exit by Q.

        Args:
            finished: agent -> (answer, confidence), in order of completion; NaN for an unknown confidence.
            remaining: Agents that run or wait.

        Raises:
            ValueError: An agent is not of the cluster.
        """
        foreign = finished.keys() - self._agents
        if foreign:
            raise ValueError(f"agent {min(foreign)} is not of cluster {self._cluster}: pass only its own answers")
        if len(finished) < self._rule.least or remaining <= 0:
            return None
        started = time.monotonic()
        texts = tuple(text for text, _ in finished.values())
        confidences = tuple(confidence for _, confidence in finished.values())

        async def measure() -> Agreement:
            assert self._judge is not None
            rule = self._rule
            return await self._judge.agreement(
                texts, confidences, rule.gamma, rule.tau, rule.m, rule.similarity, within=self._timeout
            )

        evidence = Evidence(texts, self._draws[len(finished) - 1], measure)
        decision = Decision(
            cluster=self._cluster,
            rule=self._rule.rule,
            exit=False,
            by=None,
            answers=tuple(finished),
            remaining=remaining,
            confidences=confidences,
        )
        for criterion in self._criteria:
            decision = await criterion.evaluate(evidence, decision)
            if decision.exit:
                break
        return replace(decision, seconds=time.monotonic() - started)
