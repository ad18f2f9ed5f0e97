"""Splits the limits of the whole router among its processes."""

from dataclasses import replace

from router.access.client import Client
from router.errors import BadRequest
from router.server.settings import RouterSettings


def process_share(settings: RouterSettings, index: int, count: int) -> RouterSettings:
    """The settings of process `index` of `count`; the first processes get the remainder of a whole number.

    Where the router has several processes by itself, limits have their defaults, and these hold for each process.
    """
    if settings.server.workers == 0:
        return settings

    def share(total: int) -> int:
        return _share(total, index, count)

    def some(total: int) -> int:
        return max(1, share(total))

    limits, places, runs = settings.limits, settings.places, settings.runs
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
        places=replace(
            places,
            prefills=some(places.prefills) if places.prefills > 0 else places.prefills,
            queue_size=None if places.queue_size is None else share(places.queue_size),
            processes=count,
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


def client_share(client: Client, index: int, count: int, workers: int) -> Client:
    """A client with the limits that process `index` of `count` has for it.

    Raises:
        BadRequest: Some of `workers` processes would have nothing for it.
    """
    most, rate = client.max_concurrent_requests, client.requests_per_second
    if most is not None and most < workers:
        raise BadRequest(
            f"max_concurrent_requests {most} of the key {client.name} leaves nothing for some of {workers} --workers."
        )
    return replace(
        client,
        max_concurrent_requests=None if most is None else _share(most, index, count),
        requests_per_second=None if rate is None else rate / count,
    )


def _share(total: int, index: int, count: int) -> int:
    return total // count + (index < total % count)
