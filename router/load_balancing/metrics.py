"""Prometheus metrics of the policies: which rules decided, and the routing keys that are remembered."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from router.load_balancing.manual import Manual
from router.load_balancing.policy import BranchingPolicy, Policy


class PolicyMetrics(Collector):
    """The metrics of the policies of all roles, summed; names and labels are sglang-router's."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._policies = [policy for policy in policies if isinstance(policy, BranchingPolicy)]

    def collect(self) -> Iterator[Metric]:
        """Metric families of those policies that are in use."""
        branches: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for policy in self._policies:
            branches[policy.branch_metric].update(policy.branches)
        for name, counts in branches.items():
            family = CounterMetricFamily(name, "Choices by the rule that decided", labels=("branch",))
            for branch, count in counts.items():
                family.add_metric((branch,), count)
            yield family
        tables = [policy.table for policy in self._policies if isinstance(policy, Manual)]
        if tables:
            keys = sum(len(table) for table in tables)
            yield GaugeMetricFamily("smg_manual_policy_cache_entries", "Routing keys that are remembered", keys)
