"""One answer made of what every process of a router says."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from router.endpoints.workers import worker_counts

# Gauges that count what each process does by itself; others are of the workers, of which every process sees the same.
SUMMED = {
    "moa_queue_length",
    "smg_http_connections_active",
    "smg_http_inflight_request_age_count",
    "smg_worker_requests_active",
}
WORST = {"smg_worker_health"}  # where the least is told; of other gauges the most


def merge_metrics(texts: Iterable[bytes]) -> bytes:
    """Prometheus's text of all processes: counts are summed, and of what each sees the worst is told."""
    registry = CollectorRegistry()
    registry.register(_Merged([text.decode() for text in texts]))
    return generate_latest(registry)


class _Merged(Collector):
    def __init__(self, texts: list[str]) -> None:
        self._texts = texts

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], list[float]]] = {}
        for text in self._texts:
            for family in text_string_to_metric_families(text):
                families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                found = values.setdefault(family.name, defaultdict(list))
                for sample in family.samples:
                    found[sample.name, tuple(sample.labels.items())].append(sample.value)
        for name, family in families.items():
            together = _rule(family)
            for (sample_name, labels), each in values[name].items():
                family.add_sample(sample_name, dict(labels), together(each))
            yield family


def _rule(family: Metric) -> Callable[[list[float]], float]:
    if family.type != "gauge" or family.name in SUMMED:
        return sum
    return min if family.name in WORST else max


def merge_workers(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`/workers` of the process that was asked, with the load of all, and well only where it is well in all.

    A worker that is removed stays until it is gone in all of them.
    """
    mine = told[0]
    everywhere: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for worker in (each for one in told for each in one["workers"]):
        everywhere[worker["id"]].append(worker)
    mine["workers"] = [seen[0] for seen in everywhere.values()]
    mine.update(worker_counts(mine["workers"]))
    for worker in mine["workers"]:
        seen = everywhere[worker["id"]]
        worker["load"] = sum(each["load"] for each in seen)
        for key in ("healthy", "is_healthy", "generated"):
            worker[key] = all(each[key] for each in seen)
        worker["problem"] = next((each["problem"] for each in seen if each["problem"] is not None), None)
        worker["breaker"] = max((each["breaker"] for each in seen), key=("closed", "half_open", "open").index)
    for pair in mine["pairs"]:
        where = {key: pair[key] for key in ("prefill", "decode")}
        seen = [each for one in told for each in one["pairs"] if where.items() <= each.items()]
        pair["generated"] = all(each["generated"] for each in seen)
    return mine


def merge_worker(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`/workers/{id}`, likewise."""
    return dict(merge_workers([{"workers": [each], "pairs": []} for each in told])["workers"][0])


def merge_info(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`/get_server_info` of the process that was asked, with the requests of all."""
    mine = told[0]
    for worker in mine.get("workers", []):
        key = (worker["url"], worker["role"])
        seen = [each for one in told for each in one["workers"] if (each["url"], each["role"]) == key]
        worker["in_flight"] = sum(each["in_flight"] for each in seen)
        if worker["idle"]:
            worker["idle"] = worker["in_flight"] == 0
    return mine


def merge_runs(told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`/runs` of all, the youngest first."""
    runs = [run for each in told for run in each["runs"]]
    return {"runs": sorted(runs, key=lambda run: -run["created"])}
