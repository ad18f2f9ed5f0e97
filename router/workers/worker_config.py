"""What an operator says about a worker besides its address and role; it can be changed while the worker serves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

DEFAULT_PRIORITY, DEFAULT_COST = 50, 1.0  # as of the other routers


@dataclass(frozen=True)
class WorkerConfig:
    """The settings of one worker.

    Attributes:
        bootstrap_port: The port of a prefill server's bootstrap server; None asks the server.
        api_key: Its own API key; None for the router's.
        model_id: The only model that it is asked for, under this name; None for those that it says it serves.
        labels: Whatever the operator notes.
        priority: Higher is better; noted only.
        cost: Of a request, 1 being usual; noted only.
        health: Fields of `HealthSettings` that differ from the router's.
    """

    bootstrap_port: int | None = None
    api_key: str | None = field(default=None, repr=False)
    model_id: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    priority: int = DEFAULT_PRIORITY
    cost: float = DEFAULT_COST
    health: Mapping[str, Any] = field(default_factory=dict)
