"""Each process's share of the limits that hold for the whole router."""

from dataclasses import replace

from router.server.settings import RouterSettings


def process_share(settings: RouterSettings, index: int, count: int) -> RouterSettings:
    """The settings of process `index` of `count`: whole numbers are split, and the first ones get what is left."""

    def part(number: int) -> int:
        return number // count + (index < number % count)

    limits, runs = settings.limits, settings.runs
    return replace(
        settings,
        limits=replace(
            limits,
            max_concurrent=part(limits.max_concurrent) if limits.max_concurrent > 0 else limits.max_concurrent,
            queue_size=part(limits.queue_size),
            rate=None if limits.rate is None else limits.rate / count,
        ),
        runs=replace(runs, total=max(1, part(runs.total)), per_client=max(1, part(runs.per_client))),
    )
