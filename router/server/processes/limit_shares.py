"""Splits the limits of the whole router among its processes."""

from dataclasses import replace

from router.server.settings import RouterSettings


def process_share(settings: RouterSettings, index: int, count: int) -> RouterSettings:
    """The settings of process `index` of `count`; the first processes get the remainder of a whole number."""

    def share(total: int) -> int:
        return total // count + (index < total % count)

    limits, runs = settings.limits, settings.runs
    return replace(
        settings,
        limits=replace(
            limits,
            max_concurrent=share(limits.max_concurrent) if limits.max_concurrent > 0 else limits.max_concurrent,
            queue_size=share(limits.queue_size),
            rate=None if limits.rate is None else limits.rate / count,
        ),
        runs=replace(runs, total=max(1, share(runs.total)), per_client=max(1, share(runs.per_client))),
    )
