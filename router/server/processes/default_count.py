"""How many processes a router has where `--workers` does not say it."""

import math
import os
from dataclasses import replace
from pathlib import Path

from router.load_balancing import POLICIES, CacheAwareSettings
from router.moa.settings import RunSettings
from router.server.admission import AdmissionSettings
from router.server.settings import RouterSettings
from router.worker_selection.pair_places import PairPlaceSettings
from router.workers.circuit_breaker import CircuitBreakerSettings

MAX_DEFAULT_PROCESSES = 2


def default_process_count(settings: RouterSettings, cores: int) -> int:
    """One process for each core, at most `MAX_DEFAULT_PROCESSES`; one alone where several would do worse.

    That is where the policy remembers what processes do not tell each other (`Policy.in_processes`); where a limit has
    not its default, of which each process would have a share, or the circuit breaker, which each would open by itself;
    with trees of one's own, whose judge each would load; and with log files, of which each would have its own. The
    defaults hold for each of the processes.
    """
    policies = {settings.prefill_policy or settings.policy, settings.decode_policy or settings.policy, settings.policy}
    has_limits = (
        settings.limits != AdmissionSettings()
        or settings.places != PairPlaceSettings()
        or replace(settings.runs, embedding_model=RunSettings.embedding_model) != RunSettings()
        or settings.cache_aware.max_tree_size != CacheAwareSettings.max_tree_size
        or settings.breaker != CircuitBreakerSettings()
        or settings.server.api_keys_file is not None
    )
    has_files = settings.trees is not None or settings.server.log_dir is not None
    if has_files or has_limits or any(POLICIES[policy].in_processes == "worse" for policy in policies):
        return 1
    return max(1, min(cores, MAX_DEFAULT_PROCESSES))


def available_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """The cores that this process may use: those it may run on, or fewer where its container has a quota of time."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        return min(cores, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control groups of version 2, or "max"
        return cores
