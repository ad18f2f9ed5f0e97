"""A dispatcher without a router around it."""

from router.dispatch.dispatcher import Dispatcher
from router.load_balancing import CacheAwareSettings, Random
from router.worker_selection.selector import WorkerSelector
from router.workers.registry import Registry


def dispatcher_for(registry: Registry, balance: CacheAwareSettings | None = None) -> Dispatcher:
    """One that chooses among these workers at random."""
    return Dispatcher(WorkerSelector(registry, {"prefill": Random(), "decode": Random()}, balance=balance))
