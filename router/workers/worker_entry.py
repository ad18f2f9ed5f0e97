"""What `/workers` tells of a worker."""

from typing import Any

from router.workers.worker import Worker


def described(worker: Worker) -> dict[str, Any]:
    """A worker's entry in `/workers`, a JSON object."""
    return {
        "id": worker.id,
        "url": worker.url,
        "role": worker.role,
        "worker_type": worker.role,
        "bootstrap_port": worker.bootstrap_port,
        "model": worker.model,
        "model_id": worker.model,
        "models": worker.models,
        "labels": dict(worker.config.labels),
        "priority": worker.config.priority,
        "cost": worker.config.cost,
        "healthy": worker.health.healthy,
        "is_healthy": worker.health.healthy,
        "problem": worker.health.problem,
        "load": worker.load.requests,
        "connection_mode": "HTTP",
        "breaker": worker.breaker.state,
        "generated": worker.health.warmed_up,
        "draining": worker.health.draining,
        "wedged": worker.health.wedged is not None,
        "capability": worker.capability,
        "sglang": worker.report.sglang,
        "overlay": worker.report.overlay,
    }
