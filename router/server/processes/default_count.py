"""How many processes a router has where `--workers` does not say it."""

from dataclasses import replace

from router.server.settings import RouterSettings

MAX_DEFAULT_PROCESSES = 4
# They choose by the request alone, or in turn: no process need know what the others sent where.
MEMORYLESS_POLICIES = frozenset({"consistent_hashing", "random", "round_robin"})


def with_process_count(settings: RouterSettings, cores: int) -> RouterSettings:
    """The same settings with a number of processes, that of `default_process_count` where they have none."""
    server = settings.server
    return replace(settings, server=replace(server, workers=server.workers or default_process_count(settings, cores)))


def default_process_count(settings: RouterSettings, cores: int) -> int:
    """One process for each core, at most `MAX_DEFAULT_PROCESSES`; one alone where several would do worse.

    That is where the policy remembers requests, which each process would do for its own; where a limit is set, of which
    a client with one connection would get one process's share; and with trees of one's own, whose judge each process
    would load.
    """
    policies = {settings.prefill_policy or settings.policy, settings.decode_policy or settings.policy, settings.policy}
    is_limited = (
        settings.limits.max_concurrent > 0
        or settings.limits.rate is not None
        or settings.places.prefills > 0
        or settings.places.decode_wait_secs is not None
        or settings.server.api_keys_file is not None
    )
    if settings.trees is not None or is_limited or not policies <= MEMORYLESS_POLICIES:
        return 1
    return max(1, min(cores, MAX_DEFAULT_PROCESSES))
