"""Prometheus metrics of the policies: which rules decided, what they remember of prompts and of routing keys."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from router.load_balancing.cache_aware import CacheAware
from router.load_balancing.manual import Manual
from router.load_balancing.policy import BranchingPolicy, Policy
from router.load_balancing.sticky_table import StickyTable


class PolicyMetrics(Collector):
    """The metrics of the policies of all roles, summed; names and labels are those of sglang-router and smg."""

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
        yield from self._routing_keys([policy.table for policy in self._policies if isinstance(policy, Manual)])
        yield from self._prefix_trees([policy for policy in self._policies if isinstance(policy, CacheAware)])

    @staticmethod
    def _routing_keys(tables: list[StickyTable]) -> Iterator[Metric]:
        if not tables:
            return
        keys = sum(len(table) for table in tables)
        yield GaugeMetricFamily("smg_manual_policy_cache_entries", "Routing keys that are remembered", keys)
        held = GaugeMetricFamily("smg_worker_routing_keys_active", "Routing keys that a worker has", labels=("worker",))
        for table in tables:
            for url, number in table.keys_by_worker().items():
                held.add_metric((url,), number)
        yield held

    @staticmethod
    def _prefix_trees(policies: list[CacheAware]) -> Iterator[Metric]:
        if not policies:
            return
        ratios = HistogramMetricFamily("smg_cache_aware_match_ratio", "Share of a prompt thought to be cached")
        counted = [policy.match_ratios for policy in policies]
        buckets: defaultdict[str, float] = defaultdict(float)
        for each in counted:
            for bound, count in each.buckets():
                buckets[bound] += count
        ratios.add_metric((), [*buckets.items()], sum(each.total for each in counted))
        yield ratios
        sizes: Counter[str] = Counter()
        workers: Counter[str] = Counter()
        for policy in policies:
            for model, (holders, size) in policy.trees().items():
                workers[model] += holders
                sizes[model] += size
        chars = GaugeMetricFamily("smg_cache_tree_chars", "Size of the prefix trees", labels=("model",))
        tenants = GaugeMetricFamily("smg_cache_tree_tenants", "Workers with a prefix tree", labels=("model", "tree"))
        for model, size in sizes.items():
            chars.add_metric((model,), size)
            tenants.add_metric((model, "string"), workers[model])
        yield from (chars, tenants)
