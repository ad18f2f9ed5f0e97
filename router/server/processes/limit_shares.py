"""Splits the limits of the whole router among its processes."""

from dataclasses import replace

from router.server.settings import RouterSettings


def process_share(settings: RouterSettings, index: int, count: int) -> RouterSettings:
    """The settings of process `index` of `count`; the first processes get the remainder of a whole number."""

    def share(total: int) -> int:
        return total // count + (index < total % count)

    def some(total: int) -> int:
        return max(1, share(total))

    limits, runs = settings.limits, settings.runs
    return replace(
        settings,
        limits=replace(
            limits,
            max_concurrent=share(limits.max_concurrent) if limits.max_concurrent > 0 else limits.max_concurrent,
            queue_size=share(limits.queue_size),
            rate=None if limits.rate is None else limits.rate / count,
            queue_bytes=share(limits.queue_bytes),
            body_bytes=some(limits.body_bytes),
        ),
        runs=replace(
            runs,
            total=some(runs.total),
            per_client=some(runs.per_client),
            waiting=some(runs.waiting),
            waiting_per_client=some(runs.waiting_per_client),
            named=some(runs.named),
            named_per_client=some(runs.named_per_client),
            named_bytes=share(runs.named_bytes),
            store_bytes=share(runs.store_bytes),
        ),
    )
