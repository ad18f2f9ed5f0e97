"""How an SGLang server schedules by priority, as its `/server_info` tells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class PriorityRule:
    """How one server treats `priority`.

    Attributes:
        schedules: Whether it was started with `--enable-priority-scheduling`.
        low_first: Whether low values come first (`--schedule-low-priority-values-first`).
        default: The value of requests without one (`--default-priority-value`); None where these come last.
        refuses: Whether it gives requests with a priority up, since it does not schedule by it.
    """

    schedules: bool
    low_first: bool
    default: int | None
    refuses: bool

    @classmethod
    def read(cls, server_info: Mapping[str, Any]) -> Self:
        """The rule in a server's information about itself."""
        default = server_info.get("default_priority_value")
        schedules = server_info.get("enable_priority_scheduling") is True
        return cls(
            schedules=schedules,
            low_first=server_info.get("schedule_low_priority_values_first") is True,
            default=default if type(default) is int else None,
            refuses=not schedules and server_info.get("abort_on_priority_when_disabled") is True,
        )
