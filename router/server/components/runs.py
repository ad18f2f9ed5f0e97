"""Runs: of trees, and of agents that clients name."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from router.agent_runs.service import AgentRuns
from router.early_exit import AgreementJudge, Judge
from router.endpoints.trees import TreeEndpoint
from router.moa.run_context import RunContext
from router.moa.run_limits import RunLimits
from router.moa.tree_files import load_trees
from router.observability.run_store import RunStore
from router.server.components.workers import WorkerComponents
from router.server.processes.peers import Peers
from router.server.settings import RouterSettings
from router.speculative_prefill.metrics import OpenPromptMetrics


@dataclass(frozen=True)
class RunComponents:
    """What a router has for runs.

    Attributes:
        judge: Measures how much answers agree.
        preload_judge: Whether a tree of the trees file needs the judge's embedding model.
        trees: Answers requests to trees.
        agents: The runs of agents that clients name.
        limits: How many runs there may be at once.
        store: The traces of recent runs.
    """

    judge: AgreementJudge
    preload_judge: bool
    trees: TreeEndpoint
    agents: AgentRuns
    limits: RunLimits
    store: RunStore

    @property
    def judge_state(self) -> str:
        """The state of the judge, as `Judge.state`; any other judge is always ready."""
        return self.judge.state if isinstance(self.judge, Judge) else "ready"


def build_runs(
    settings: RouterSettings,
    judge: AgreementJudge | None,
    peers: Peers | None,
    workers: WorkerComponents,
    prometheus: CollectorRegistry,
) -> RunComponents:
    """Build what a router has for runs; without a judge with one that has the embedding model of the settings."""
    trees = load_trees(settings.trees)
    judge = judge or Judge(settings.runs.embedding_model)
    context = RunContext(workers.dispatcher, judge=judge, metrics=OpenPromptMetrics(prometheus))
    if peers is not None:
        context.new_run_id = peers.new_run
    limits = RunLimits(settings.runs)
    store = RunStore(max_bytes=settings.runs.store_bytes, redact_text=settings.server.redact_text)
    return RunComponents(
        judge,
        trees.need_judge,
        TreeEndpoint(context, trees, limits, store),
        AgentRuns(context, limits, store),
        limits,
        store,
    )
