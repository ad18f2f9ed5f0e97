"""The time axis of the timeline: positions in percent of the width, and ticks."""

import math
from dataclasses import dataclass

from router.timeline.record import RunRecord
from router.timeline.spans import Row

MAX_INTERVALS = 8


@dataclass(frozen=True)
class Tick:
    """A line at `at` percent of the width, with its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """From 0 to `total` seconds. In percent of the width, so that the drawing stretches and its text does not."""

    total: float

    def at(self, time: float) -> float:
        """The position of a time, from 0 to 100."""
        return round(min(100.0, 100 * (time / self.total)), 4)

    def ticks(self) -> list[Tick]:
        """At most nine ticks at round times, 0 first."""
        step = _step(self.total / MAX_INTERVALS)
        return [Tick(self.at(n * step), _label(n * step, step)) for n in range(int(self.total / step + 1e-9) + 1)]


def axis(record: RunRecord, rows: list[Row]) -> Axis:
    """An axis that is long enough for everything in the trace."""
    ends = [span.end for row in rows for span in row.spans]
    stops = [row.stopped for row in rows if row.stopped is not None]
    total = max(record.seconds, *ends, *stops, *(decision.at for decision in record.decisions), 0.0)
    return Axis(total if total > 1e-6 else 1.0)


def _step(minimum: float) -> float:
    """The smallest round interval from `minimum` seconds on: 1, 2, 5, 10, ...; above 10 s in minutes and hours."""
    if 10 < minimum <= 3600 * 12:
        return next(
            step for step in (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200) if step >= minimum
        )
    power = 10.0 ** math.floor(math.log10(minimum))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= minimum * (1 - 1e-9))


def _label(time: float, step: float) -> str:
    if step >= 60:
        return f"{time / 60:g} min"
    if step < 1:
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{time:.{digits}f} s" if digits <= 2 else f"{time * 1000:g} ms"
    return f"{time:g} s"
