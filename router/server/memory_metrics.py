"""Prometheus metrics of what the router holds for its clients, against each of which there is a limit."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.agent_runs.registry import AgentRunRegistry
from router.dispatch.background_posts import BackgroundPosts
from router.moa.run_limits import RunLimits
from router.observability.run_store import RunStore
from router.server.admission import AdmissionLimits


class MemoryMetrics(Collector):
    """Computed when Prometheus scrapes them.

    Args:
        limits: The bodies in memory, and the queue.
        run_limits: Runs under way, and requests that wait for others.
        store: The traces of runs.
        named_runs: The runs that clients name.
        background: Aborts that are sent in the background.
    """

    def __init__(
        self,
        limits: AdmissionLimits,
        run_limits: RunLimits,
        store: RunStore,
        named_runs: AgentRunRegistry,
        background: BackgroundPosts,
    ) -> None:
        self._limits = limits
        self._run_limits = run_limits
        self._store = store
        self._named_runs = named_runs
        self._background = background

    def collect(self) -> Iterator[Metric]:
        """One gauge for each thing that is bounded."""
        bodies, gate = self._limits.bodies, self._limits.gate
        posts = self._background.running + self._background.waiting
        gauges = {
            "moa_body_bytes": ("Bytes of the bodies in memory", bodies.bytes_in_use),
            "moa_queue_bytes": ("Bytes of the bodies of requests that wait for their turn", gate and gate.queued_bytes),
            "moa_runs_active": ("Runs under way", self._run_limits.running),
            "moa_waiting_agents": ("Requests that wait for other agents of their run", self._run_limits.waiting),
            "moa_run_store_bytes": ("Bytes of the traces of runs", self._store.size),
            "moa_named_runs": ("Runs that clients named", len(self._named_runs)),
            "moa_named_runs_bytes": ("Bytes of the answers in runs that clients named", self._named_runs.size),
            "moa_background_posts": ("Aborts that are sent or wait", posts),
        }
        for name, (words, value) in gauges.items():
            yield GaugeMetricFamily(name, words, value or 0)
        yield CounterMetricFamily("moa_bodies_refused", "Requests refused for their bodies' length", bodies.refusals)
