"""A prefill server goes on to receive messages from decode servers after one that it fails at.

One thread of a prefill server receives, for each request, where the decode server wants its KV. SGLang 0.5.17 ends
this thread at the first message that raises: a request aborted while its message is read (`KeyError` in
`transfer_infos`), or bytes from anyone who reaches the port. From then on every request waits until it times out.
Later versions of SGLang catch the same errors (its pull request 35281).
"""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from types import ModuleType
from typing import Any

import zmq

logger = logging.getLogger(__name__)


def keep_receiving(original: Callable[..., None], manager: object) -> None:
    """AROUND the methods of KV managers that start the thread for messages from decode servers."""
    with threads_that_go_on(sys.modules[original.__module__]):
        original(manager)


@contextmanager
def threads_that_go_on(module: ModuleType) -> Iterator[None]:
    """Threads that `module` makes inside call their target again when it raises, unless its socket was closed."""
    stand_in = ModuleType(threading.__name__)
    stand_in.__dict__.update(vars(threading))
    stand_in.__dict__["Thread"] = _thread_that_goes_on
    original = vars(module)["threading"]
    vars(module)["threading"] = stand_in
    try:
        yield
    finally:
        vars(module)["threading"] = original


def _thread_that_goes_on(*, target: Callable[[], None], **kwargs: Any) -> threading.Thread:
    @wraps(target)
    def run() -> None:
        while True:
            try:
                return target()
            except zmq.ZMQError as error:
                return logger.error("no further messages about KV transfer: %s", error)
            except Exception as error:
                logger.warning("ignored a message about KV transfer (%s: %s)", type(error).__name__, error)

    return threading.Thread(target=run, **kwargs)
