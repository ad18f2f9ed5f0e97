"""The command line's flags for policies, by sglang-router's names."""

import argparse

from router.load_balancing import DEFAULT_POLICY, POLICIES, CacheAwareSettings


def add_policy_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--policy` and its relatives."""
    group = parser.add_argument_group("routing policy")
    names = sorted(POLICIES)
    group.add_argument("--policy", choices=names, default=DEFAULT_POLICY, help="policy for both roles (%(default)s)")
    group.add_argument("--prefill-policy", choices=names, help="policy for prefill servers, if another")
    group.add_argument("--decode-policy", choices=names, help="policy for decode servers, if another")
    group.add_argument(
        "--cache-threshold",
        type=float,
        default=CacheAwareSettings.cache_threshold,
        help="cache_aware: share of a prompt above which the worker that has it is preferred (%(default)s)",
    )
    group.add_argument(
        "--balance-abs-threshold",
        type=int,
        default=CacheAwareSettings.balance_abs_threshold,
        help="cache_aware: the least loaded worker is taken when loads differ by more than this (%(default)s)",
    )
    group.add_argument(
        "--balance-rel-threshold",
        type=float,
        default=CacheAwareSettings.balance_rel_threshold,
        help="cache_aware: and the greatest load is more than this times the least (%(default)s)",
    )
    group.add_argument(
        "--eviction-interval-secs",
        type=float,
        default=CacheAwareSettings.eviction_interval_secs,
        help="cache_aware: seconds after which a worker that is away is forgotten (%(default)g)",
    )
    group.add_argument(
        "--max-tree-size",
        type=int,
        default=CacheAwareSettings.max_tree_size,
        help="cache_aware: most characters remembered of each worker (%(default)s)",
    )


def cache_aware_settings(parser: argparse.ArgumentParser, given: argparse.Namespace) -> CacheAwareSettings:
    """The flags' values; leaves through `parser.error` on a wrong one."""
    try:
        return CacheAwareSettings(
            cache_threshold=given.cache_threshold,
            balance_abs_threshold=given.balance_abs_threshold,
            balance_rel_threshold=given.balance_rel_threshold,
            eviction_interval_secs=given.eviction_interval_secs,
            max_tree_size=given.max_tree_size,
        )
    except ValueError as error:
        parser.error(str(error))
