"""Reads the bodies that add, replace and change workers, and writes one from which another process makes the same."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from router.errors import BadRequest
from router.http_client.address import WORKER_ADDRESS
from router.workers.worker import Role, Worker
from router.workers.worker_config import DEFAULT_COST, DEFAULT_PRIORITY, WorkerConfig

# By the name in `worker_type`; a worker of no type is a plain one, as for the other routers.
ROLES: dict[str | None, Role] = {
    "prefill": "prefill", "decode": "decode", "regular": "plain", "plain": "plain", None: "plain",
}  # fmt: skip
CHANGEABLE = ("priority", "cost", "labels", "api_key", "health")
FIELDS = ("url", "worker_type", "bootstrap_port", "model_id", *CHANGEABLE)
# The fields of `health` by their names in `HealthSettings`, with the least value of each; None for a boolean.
HEALTH_FIELDS: dict[str, tuple[str, float | None]] = {
    "timeout_secs": ("timeout_secs", 0.001),
    "check_interval_secs": ("interval_secs", 0.001),
    "success_threshold": ("success_threshold", 1),
    "failure_threshold": ("failure_threshold", 1),
    "disable_health_check": ("disable_checks", None),
}
MAX_LABELS, MAX_TEXT = 64, 256  # labels of a worker; characters of a label or of a model's name
MAX_NUMBER = 1_000_000_000  # of priority, cost, thresholds and seconds

_LABELS = {"type": ["object", "null"], "maxProperties": MAX_LABELS, "additionalProperties": {"type": "string"}}
_HEALTH = {
    "type": ["object", "null"],
    "additionalProperties": False,
    "properties": {
        "timeout_secs": {"type": "number", "exclusiveMinimum": 0},
        "check_interval_secs": {"type": "number", "exclusiveMinimum": 0},
        "success_threshold": {"type": "integer", "minimum": 1},
        "failure_threshold": {"type": "integer", "minimum": 1},
        "disable_health_check": {"type": "boolean"},
    },
}
CHANGE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "priority": {"type": ["integer", "null"], "minimum": 0},
        "cost": {"type": ["number", "null"], "minimum": 0},
        "labels": _LABELS,
        "api_key": {"type": ["string", "null"]},
        "health": _HEALTH,
    },
}
WORKER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["url"],
    "additionalProperties": False,
    "properties": {
        "url": {"type": "string", "pattern": f"^{WORKER_ADDRESS}$"},
        "worker_type": {"enum": list(ROLES)},
        "bootstrap_port": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
        "model_id": {"type": ["string", "null"], "minLength": 1, "maxLength": MAX_TEXT},
        **CHANGE_SCHEMA["properties"],
    },
}


def read_worker(body: Mapping[str, Any], role: Role | None = None) -> tuple[str, Role, WorkerConfig]:
    """The address, role and settings of a worker.

    Args:
        body: The body.
        role: Of the worker that it is about, where there is one: the body then need not name it.

    Raises:
        BadRequest: The body is wrong.
    """
    _refuse_unknown(body, FIELDS, "a worker has")
    url, kind, port = body.get("url"), body.get("worker_type"), body.get("bootstrap_port")
    if not isinstance(url, str):
        raise BadRequest("`url` must be the worker's address, like http://127.0.0.1:30001.")
    if not isinstance(kind, str | None) or kind not in ROLES:
        raise BadRequest("`worker_type` must be prefill, decode, or regular for one that is no half of a pair.")
    if kind is not None or role is None:
        role = ROLES[kind]
    if port is not None and (type(port) is not int or not 0 < port < 65536 or role != "prefill"):
        raise BadRequest("`bootstrap_port` must be a port of a prefill server, from 1 to 65535.")
    name = body.get("model_id")
    if name is not None and not _is_text(name):
        raise BadRequest(f"`model_id` must be a model's name of at most {MAX_TEXT} characters.")
    return url, role, changed(WorkerConfig(port, model_id=name), {k: body.get(k) for k in CHANGEABLE})


def changed(config: WorkerConfig, body: Mapping[str, Any]) -> WorkerConfig:
    """Settings with those that a body names; `null` leaves one as it is. Raises `BadRequest`."""
    _refuse_unknown(body, CHANGEABLE, "what can be changed of a worker is")
    priority, cost, labels, key, health = (body.get(name) for name in CHANGEABLE)
    if priority is not None and not (_is_number(priority, 0) and type(priority) is int):
        raise BadRequest(f"`priority` must be an integer from 0 to {MAX_NUMBER}.")
    if cost is not None and not _is_number(cost, 0):
        raise BadRequest(f"`cost` must be a number from 0 to {MAX_NUMBER}.")
    if key is not None and (not isinstance(key, str) or not key.isascii() or not key.isprintable()):
        raise BadRequest("`api_key` must be a string of printable ASCII characters.")
    return WorkerConfig(
        config.bootstrap_port,
        config.api_key if key is None else key,
        config.model_id,
        config.labels if labels is None else _read_labels(labels),
        config.priority if priority is None else priority,
        config.cost if cost is None else float(cost),
        config.health if health is None else {**config.health, **_read_health(health)},
    )


def body_of(worker: Worker) -> dict[str, Any]:
    """A body from which another process makes this worker, with the key that an operator gave for it."""
    config = worker.config
    names = {ours: theirs for theirs, (ours, _) in HEALTH_FIELDS.items()}
    told = {
        "bootstrap_port": config.bootstrap_port,
        "api_key": config.api_key,
        "model_id": config.model_id,
        "labels": dict(config.labels) or None,
        "priority": None if config.priority == DEFAULT_PRIORITY else config.priority,
        "cost": None if config.cost == DEFAULT_COST else config.cost,
        "health": {names[name]: value for name, value in config.health.items()} or None,
    }
    settings = {name: value for name, value in told.items() if value is not None}
    return {"url": worker.url, "worker_type": worker.role, **settings}


def _refuse_unknown(body: Mapping[str, Any], known: Collection[str], what: str) -> None:
    unknown = sorted(body.keys() - set(known))
    if unknown:
        raise BadRequest(f"`{unknown[0][:MAX_TEXT]}` is not known here; {what} {', '.join(known)}.")


def _read_labels(labels: Any) -> dict[str, str]:
    right = isinstance(labels, dict) and len(labels) <= MAX_LABELS
    if not right or not all(_is_text(name) and _is_text(value, least=0) for name, value in labels.items()):
        raise BadRequest(f"`labels` must be an object of at most {MAX_LABELS} strings of {MAX_TEXT} characters each.")
    return dict(labels)


def _read_health(health: Any) -> dict[str, Any]:
    if not isinstance(health, dict):
        raise BadRequest(f"`health` must be an object of {', '.join(HEALTH_FIELDS)}.")
    if health.get("drain_settle_secs") is not None:
        raise BadRequest("`drain_settle_secs` is not taken: a worker that is removed goes once its requests are over.")
    _refuse_unknown(health, (*HEALTH_FIELDS, "drain_settle_secs"), "`health` has")
    read: dict[str, Any] = {}
    for name, value in health.items():
        if value is None:
            continue
        ours, least = HEALTH_FIELDS[name]
        if least is None:
            right = isinstance(value, bool)
        else:
            right = _is_number(value, least) and (type(value) is int or not name.endswith("_threshold"))
        if not right:
            what = "true or false" if least is None else f"a number from {least:g} to {MAX_NUMBER}"
            raise BadRequest(f"`health.{name}` must be {what}.")
        read[ours] = value
    return read


def _is_text(value: Any, least: int = 1) -> bool:
    return isinstance(value, str) and least <= len(value) <= MAX_TEXT and (value.isprintable() or not value)


def _is_number(value: Any, least: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and least <= value <= MAX_NUMBER
