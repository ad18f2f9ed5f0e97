"""The field by which a hint reaches servers: `priority`, for those that schedule by it."""

from collections.abc import Mapping, Sequence
from typing import Any

from router.hints import Hints, read_hints
from router.workers.priority_rule import PriorityRule
from router.workers.worker import Worker

INT32 = 2**31 - 1


def hint_fields(fields: Mapping[str, Any], workers: Sequence[Worker]) -> dict[str, int]:
    """The `priority` that a body's hints add; nothing if the body has one, or the workers do not schedule by priority.

    For servers with `--schedule-low-priority-values-first` important requests get low values.
    """
    if fields.get("priority") is not None:
        return {}
    hints = read_hints(fields)
    if hints.priority is None and not hints.tier:
        return {}
    rule = common_rule(workers)
    value = None if rule is None else _value(hints, rule)
    return {} if value is None else {"priority": max(-INT32, min(value, INT32))}


def common_rule(workers: Sequence[Worker]) -> PriorityRule | None:
    """The rule of workers that get the same body; None if none has one, they differ, or one refuses it."""
    rules = [worker.report.priority_rule for worker in workers]
    scheduling = {rule for rule in rules if rule is not None and rule.schedules}
    if len(scheduling) != 1 or any(rule is not None and rule.refuses for rule in rules):
        return None
    return next(iter(scheduling))


def _value(hints: Hints, rule: PriorityRule) -> int | None:
    sign = -1 if rule.low_first else 1
    if hints.priority is not None:
        return sign * hints.priority
    if rule.default is None and hints.tier < 0:
        return None  # without one it is the last already
    return (rule.default or 0) + sign * hints.tier
