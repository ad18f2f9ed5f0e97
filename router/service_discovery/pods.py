"""Which worker a pod is, and which pods are workers. Pure: pods as JSON in, changes out."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from router.service_discovery.labels import match
from router.service_discovery.settings import DiscoverySettings
from router.workers.worker import Role

logger = logging.getLogger(__name__)

BOOTSTRAP_PORT = "sglang.ai/bootstrap-port"  # annotation

Pod = dict[str, Any]
ChangeReason = Literal["pod_deleted", "pod_not_ready", "pod_changed"]


@dataclass(frozen=True)
class PodWorker:
    """The worker that a pod is; `bootstrap_port` is None where the server is to be asked."""

    url: str
    role: Role
    bootstrap_port: int | None = None


@dataclass(frozen=True)
class PodChange:
    """A pod became a worker, is none any more, or is another.

    Attributes:
        uid: The pod's, which no later pod has.
        name: Its namespace and name.
        before: What it was until now.
        after: What it is.
        reason: Why it is not what it was.
    """

    uid: str
    name: str
    before: PodWorker | None
    after: PodWorker | None
    reason: ChangeReason


def worker_of_pod(pod: Pod, settings: DiscoverySettings) -> PodWorker | None:
    """Which worker a pod is: one with a role's labels that runs, is ready, has an address and is to stay."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    role = next((role for role, wanted in settings.selectors.items() if match(wanted, labels)), None)
    address = status.get("podIP")
    if role is None or not address or status.get("phase") != "Running" or metadata.get("deletionTimestamp"):
        return None
    conditions = status.get("conditions") or ()
    if not any(each.get("type") == "Ready" and each.get("status") == "True" for each in conditions):
        return None
    host = f"[{address}]" if ":" in address else address
    return PodWorker(f"http://{host}:{settings.port}", role, _bootstrap_port(metadata) if role == "prefill" else None)


class PodTracker:
    """The pods that are workers now."""

    def __init__(self, settings: DiscoverySettings) -> None:
        self._settings = settings
        self._seats: dict[str, PodWorker] = {}
        self._names: dict[str, str] = {}

    def seen(self, pod: Pod) -> PodChange | None:
        """A pod is there, new or changed; None when nothing follows from it."""
        uid = pod["metadata"]["uid"]
        after = worker_of_pod(pod, self._settings)
        leaves = bool(pod["metadata"].get("deletionTimestamp"))
        return self._change(uid, _name(pod), after, "pod_deleted" if leaves else "pod_not_ready")

    def gone(self, pod: Pod) -> PodChange | None:
        """A pod is there no longer, or has other labels."""
        return self._change(pod["metadata"]["uid"], _name(pod), None, "pod_deleted")

    def all(self, pods: Iterable[Pod]) -> list[PodChange]:
        """These pods are there and no others. Those that left come first: their addresses may be given anew."""
        there = {pod["metadata"]["uid"]: pod for pod in pods}
        lost = [uid for uid in self._seats if uid not in there]
        changes = [self._change(uid, self._names[uid], None, "pod_deleted") for uid in lost]
        changes += [self.seen(pod) for pod in there.values()]
        return sorted(filter(None, changes), key=lambda change: change.after is not None)

    def _change(self, uid: str, name: str, after: PodWorker | None, reason: ChangeReason) -> PodChange | None:
        before = self._seats.get(uid)
        if before == after:
            return None
        if after is None:
            del self._seats[uid], self._names[uid]
        else:
            self._seats[uid], self._names[uid] = after, name
        return PodChange(uid, name, before, after, reason if after is None else "pod_changed")


def _name(pod: Pod) -> str:
    return f"{pod['metadata'].get('namespace')}/{pod['metadata'].get('name')}"


def _bootstrap_port(metadata: dict[str, Any]) -> int | None:
    text = (metadata.get("annotations") or {}).get(BOOTSTRAP_PORT)
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        logger.warning(
            "the pod %s has %s=%r, which is no port; its server is asked", metadata.get("name"), BOOTSTRAP_PORT, text
        )
        return None
    return int(text)
