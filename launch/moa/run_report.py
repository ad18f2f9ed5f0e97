"""The report of a run as JSON (`--report`): machine, versions, command, servers and agents."""

import sys
from typing import Any

import orjson

from launch.machine.inventory import Inventory
from launch.machine.units import GIB
from launch.supervision.service import ROUTER
from launch.supervision.supervisor import Supervisor
from sglang_ext.versions import versions

PACKAGES = ("faster-moa", "sglang", "torch", "triton", "nixl", "flashinfer-python")


def report_json(supervisor: Supervisor, answer: dict[str, Any], *, seconds: float) -> bytes:
    """The report as JSON text; memory in GiB, times in seconds."""
    inventory = Inventory.detect()
    servers = [
        {
            "name": service.name,
            "where": service.device,
            "start_seconds": _rounded(service.start_seconds),
            "host_gib": _gib(service.memory_bytes),
            "gpu_gib": _gib(service.gpu_bytes),
            "planned_gib": _gib(next(s.memory_bytes for s in supervisor.plan.servers if s.name == service.name)),
        }
        for service in supervisor.services.values()
        if service.name != ROUTER
    ]
    agents = [{k: v for k, v in agent.items() if k not in {"text", "output_ids"}} for agent in answer["moa"]["agents"]]
    report = {
        "command": [f"python -m {_module()}", *sys.argv[1:]],
        "machine": {
            "cores": inventory.cores,
            "memory_gib": _gib(inventory.memory_bytes),
            "gpus": [gpu.name for gpu in inventory.gpus],
        },
        "versions": versions(PACKAGES),
        "seconds": {"whole_command": _rounded(seconds), "run": answer["moa"]["seconds"]},
        "peak_host_gib": _gib(supervisor.peak_memory_bytes),
        "usage": answer["usage"],
        "servers": servers,
        "agents": agents,
    }
    return orjson.dumps(report, option=orjson.OPT_INDENT_2)


def _module() -> str:
    spec = sys.modules["__main__"].__spec__
    return "launch.pd" if spec is None else spec.name


def _gib(size: int | None) -> float | None:
    return None if size is None else round(size / GIB, 2)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
