"""How late the event loop is, as Prometheus metrics with smg's names.

A timer that fires late says that something held the loop up: every request of the process waited as long.
"""

import asyncio
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from router.observability.duration_histogram import DurationHistogram

INTERVAL = 0.1  # seconds between two timers
STALL_SECONDS = 0.005  # a timer that is later than this counts as a stall
BOUNDS = (0.0, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class EventLoopWatch(Collector):
    """Measures how late timers of the process's event loop fire, from `start` until `close`.

    Args:
        registry: Where it is registered.
        interval: Seconds between two timers.
    """

    def __init__(self, registry: CollectorRegistry, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._delays = DurationHistogram.empty(BOUNDS)
        self._stalls = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        registry.register(self)

    def start(self) -> None:
        """Measure the running loop from now on."""
        self._loop = asyncio.get_running_loop()
        self._set_timer(self._loop)

    def close(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def collect(self) -> Iterator[Metric]:
        """The metric families."""
        delays = HistogramMetricFamily("smg_tokio_event_loop_delay_seconds", "How late timers of asyncio's loop are")
        self._delays.add_to(delays, (), BOUNDS)
        yield delays
        yield CounterMetricFamily("smg_tokio_event_loop_stalls", "Timers that were over 5 ms late", self._stalls)
        tasks = 0 if self._loop is None or self._loop.is_closed() else len(asyncio.all_tasks(self._loop))
        yield GaugeMetricFamily("smg_tokio_alive_tasks", "Tasks of asyncio that have not ended", tasks)

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + self._interval
        self._timer = loop.call_at(due, self._timer_fired, loop, due)

    def _timer_fired(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        delay = max(loop.time() - due, 0.0)
        self._delays.observe(BOUNDS, delay)
        self._stalls += delay > STALL_SECONDS
        self._set_timer(loop)
