"""The time axis: where a second lies, and which seconds are written."""

import math
from dataclasses import dataclass

from router.timeline.record import Record
from router.timeline.spans import Row

MOST_TICKS = 8


@dataclass(frozen=True)
class Tick:
    """A line at `at` percent of the width, with its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Axis:
    """From 0 to `total` seconds, in percent of the width: pictures stretch, their text does not."""

    total: float

    def at(self, time: float) -> float:
        """Where a time lies, from 0 to 100."""
        return round(min(100.0, 100 * (time / self.total)), 4)

    def ticks(self) -> list[Tick]:
        """Round times, at most nine of them, 0 first."""
        step = _step(self.total / MOST_TICKS)
        return [Tick(self.at(n * step), _label(n * step, step)) for n in range(int(self.total / step + 1e-9) + 1)]


def axis(record: Record, rows: list[Row]) -> Axis:
    """Long enough for everything in the trace."""
    ends = [span.end for row in rows for span in row.spans]
    stops = [row.stopped for row in rows if row.stopped is not None]
    total = max(record.seconds, *ends, *stops, *(decision.at for decision in record.decisions), 0.0)
    return Axis(total if total > 1e-6 else 1.0)


def _step(least: float) -> float:
    """The next of 1, 2, 5, 10, ... seconds; in minutes and hours their round parts."""
    if 10 < least <= 3600 * 12:
        return next(step for step in (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200) if step >= least)
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _label(time: float, step: float) -> str:
    if step >= 60:
        return f"{time / 60:g} min"
    if step < 1:
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return f"{time:.{digits}f} s" if digits <= 2 else f"{time * 1000:g} ms"
    return f"{time:g} s"
