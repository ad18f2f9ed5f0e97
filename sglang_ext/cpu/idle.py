"""The idle loop sleeps for a moment in each round."""

import time
from typing import Any

from sglang_ext.upstream.scheduler import Scheduler

SLEEP_SECONDS = 0.001


def sleep_when_idle(result: None, scheduler: Scheduler, *args: Any, **kwargs: Any) -> None:
    """AFTER `Scheduler.on_idle`, which returns at once while a transfer or a handshake is pending."""
    time.sleep(SLEEP_SECONDS)
