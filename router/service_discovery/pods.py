"""Decides which worker a pod is, and how that changes. No I/O: pods as JSON in, changes out."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from router.service_discovery.labels import matches
from router.service_discovery.settings import DiscoverySettings
from router.workers.worker import Role

logger = logging.getLogger(__name__)

BOOTSTRAP_PORT_ANNOTATION = "sglang.ai/bootstrap-port"
SCHEME_ANNOTATION = "sglang.ai/scheme"  # `http`, the default, or `https`

Pod = dict[str, Any]
ChangeReason = Literal["pod_deleted", "pod_not_ready", "pod_changed"]


@dataclass(frozen=True)
class PodWorker:
    """The worker that a pod is. `bootstrap_port` is None if the server's own report is to be used."""

    url: str
    role: Role
    bootstrap_port: int | None = None


@dataclass(frozen=True)
class PodChange:
    """A pod became a worker, stopped being one, or became a different one.

    Attributes:
        uid: The pod's unique id.
        name: The pod's `namespace/name`.
        before: The worker it was, or None.
        after: The worker it is now, or None.
        reason: Why it is no longer `before`.
    """

    uid: str
    name: str
    before: PodWorker | None
    after: PodWorker | None
    reason: ChangeReason


def worker_of_pod(pod: Pod, settings: DiscoverySettings) -> PodWorker | None:
    """The worker that a pod is; None unless it has a role's labels and an address, is running and ready, and stays."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    role = next((role for role, selector in settings.selectors.items() if matches(selector, labels)), None)
    address = status.get("podIP")
    if role is None or not address or status.get("phase") != "Running" or metadata.get("deletionTimestamp"):
        return None
    conditions = status.get("conditions") or ()
    if not any(condition.get("type") == "Ready" and condition.get("status") == "True" for condition in conditions):
        return None
    scheme = _scheme(metadata)
    if scheme is None:
        return None
    host = f"[{address}]" if ":" in address else address
    port = _bootstrap_port(metadata) if role == "prefill" else None
    return PodWorker(f"{scheme}://{host}:{settings.port}", role, port)


class PodTracker:
    """Remembers which pods are workers, and returns what changes with each event."""

    def __init__(self, settings: DiscoverySettings) -> None:
        self._settings = settings
        self._workers: dict[str, PodWorker] = {}
        self._names: dict[str, str] = {}

    def update(self, pod: Pod) -> PodChange | None:
        """Take a new or changed pod; returns None if it changes no worker."""
        uid = pod["metadata"]["uid"]
        after = worker_of_pod(pod, self._settings)
        terminating = bool(pod["metadata"].get("deletionTimestamp"))
        return self._change(uid, _name(pod), after, "pod_deleted" if terminating else "pod_not_ready")

    def delete(self, pod: Pod) -> PodChange | None:
        """Take a pod that was deleted or no longer has the labels; returns None if it was no worker."""
        return self._change(pod["metadata"]["uid"], _name(pod), None, "pod_deleted")

    def replace_all(self, pods: Iterable[Pod]) -> list[PodChange]:
        """Take the complete list of pods. Removals come first, since a new pod may have a removed one's address."""
        by_uid = {pod["metadata"]["uid"]: pod for pod in pods}
        lost = [uid for uid in self._workers if uid not in by_uid]
        changes = [self._change(uid, self._names[uid], None, "pod_deleted") for uid in lost]
        changes += [self.update(pod) for pod in by_uid.values()]
        return sorted(filter(None, changes), key=lambda change: change.after is not None)

    def _change(self, uid: str, name: str, after: PodWorker | None, reason: ChangeReason) -> PodChange | None:
        before = self._workers.get(uid)
        if before == after:
            return None
        if after is None:
            del self._workers[uid], self._names[uid]
        else:
            self._workers[uid], self._names[uid] = after, name
        return PodChange(uid, name, before, after, reason if after is None else "pod_changed")


def _name(pod: Pod) -> str:
    return f"{pod['metadata'].get('namespace')}/{pod['metadata'].get('name')}"


def _scheme(metadata: dict[str, Any]) -> str | None:
    """How the pod's server is spoken to; None, and no worker, if its annotation says nothing that is known."""
    text: str = (metadata.get("annotations") or {}).get(SCHEME_ANNOTATION, "http")
    if text in ("http", "https"):
        return text
    # Not http then: whoever asked for TLS would send prompts and a key in the clear.
    logger.warning(
        "the pod %s has %s=%r, which is neither http nor https; it is no worker",
        metadata.get("name"),
        SCHEME_ANNOTATION,
        text,
    )
    return None


def _bootstrap_port(metadata: dict[str, Any]) -> int | None:
    text = (metadata.get("annotations") or {}).get(BOOTSTRAP_PORT_ANNOTATION)
    if text is None:
        return None
    if not text.isdecimal() or not 0 < int(text) < 65536:
        logger.warning(
            "the pod %s has %s=%r, which is no port; its server is asked",
            metadata.get("name"),
            BOOTSTRAP_PORT_ANNOTATION,
            text,
        )
        return None
    return int(text)
