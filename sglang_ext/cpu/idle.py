"""An idle loop that leaves the core to others."""

import time
from typing import Any

NAP_SECONDS = 0.001


def yield_core(result: Any, scheduler: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER `Scheduler.on_idle`, which returns at once while a transfer or a handshake is pending."""
    time.sleep(NAP_SECONDS)
