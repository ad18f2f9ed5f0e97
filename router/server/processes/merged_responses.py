"""Merges the responses of all processes of a router into one response."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from router.endpoints.workers import worker_counts

# Gauges of what each process does by itself are summed. Other gauges describe workers, which every process sees: of
# them the largest value is reported, or the smallest where that is the worst.
SUMMED_GAUGES = {
    "moa_background_posts",
    "moa_body_bytes",
    "moa_named_runs",
    "moa_named_runs_bytes",
    "moa_queue_bytes",
    "moa_queue_length",
    "moa_run_store_bytes",
    "moa_runs_active",
    "moa_waiting_agents",
    "smg_admission_inflight",
    "smg_admission_queue_depth",
    "smg_cache_tree_chars",
    "smg_http_connections_active",
    "smg_http_inflight_request_age_count",
    "smg_tokio_alive_tasks",
    "smg_worker_requests_active",
}
MIN_GAUGES = {"smg_worker_health"}


def merge_metrics(texts: Iterable[bytes]) -> bytes:
    """Merge Prometheus texts: counters and histograms are summed, of a worker's gauge the worst value is reported."""
    registry = CollectorRegistry()
    registry.register(_MergedMetrics([text.decode() for text in texts]))
    return generate_latest(registry)


class _MergedMetrics(Collector):
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
                family_values = values.setdefault(family.name, defaultdict(list))
                for sample in family.samples:
                    family_values[sample.name, tuple(sample.labels.items())].append(sample.value)
        for name, family in families.items():
            merge = _merge_function(family)
            for (sample_name, labels), samples in values[name].items():
                family.add_sample(sample_name, dict(labels), merge(samples))
            yield family


def _merge_function(family: Metric) -> Callable[[list[float]], float]:
    if family.type != "gauge" or family.name in SUMMED_GAUGES:
        return sum
    return min if family.name in MIN_GAUGES else max


def merge_workers(responses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge `/workers`: loads are summed, and a worker is healthy only where all processes find it healthy.

    A removed worker is listed until every process has removed it. Other fields are those of the first response.
    """
    merged = responses[0]
    by_id: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for worker in (each for response in responses for each in response["workers"]):
        by_id[worker["id"]].append(worker)
    merged["workers"] = [views[0] for views in by_id.values()]
    merged.update(worker_counts(merged["workers"]))
    for worker in merged["workers"]:
        views = by_id[worker["id"]]
        worker["load"] = sum(each["load"] for each in views)
        for key in ("healthy", "is_healthy", "generated"):
            worker[key] = all(each[key] for each in views)
        worker["problem"] = next((each["problem"] for each in views if each["problem"] is not None), None)
        worker["breaker"] = max((each["breaker"] for each in views), key=("closed", "half_open", "open").index)
    for pair in merged["pairs"]:
        urls = {key: pair[key] for key in ("prefill", "decode")}
        views = [each for response in responses for each in response["pairs"] if urls.items() <= each.items()]
        pair["generated"] = all(each["generated"] for each in views)
    return merged


def merge_worker(responses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge `/workers/{id}` as `merge_workers` does."""
    return dict(merge_workers([{"workers": [each], "pairs": []} for each in responses])["workers"][0])


def merge_info(responses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge `/get_server_info`: the first response, with each worker's in-flight requests of all processes."""
    merged = responses[0]
    for worker in merged.get("workers", []):
        key = (worker["url"], worker["role"])
        views = [each for response in responses for each in response["workers"] if (each["url"], each["role"]) == key]
        worker["in_flight"] = sum(each["in_flight"] for each in views)
        if worker["idle"]:
            worker["idle"] = worker["in_flight"] == 0
    return merged


def merge_runs(responses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge `/runs`, the newest run first."""
    runs = [run for response in responses for run in response["runs"]]
    return {"runs": sorted(runs, key=lambda run: -run["created"])}


def merge_drain(responses: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge `/drain`: drained once all are, with the requests of all."""
    return {
        "draining": bool(responses) and all(each["draining"] for each in responses),
        "requests_left": sum(each["requests_left"] for each in responses),
    }
