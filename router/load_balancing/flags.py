"""Command-line flags of the policies, with the names of sglang-router and smg."""

import argparse

from router.load_balancing import DEFAULT_POLICY, POLICIES, CacheAwareSettings
from router.load_balancing.prefix_tree import NODE_OVERHEAD
from router.load_balancing.prompt_prefix import TOKEN_CHARACTERS


def add_policy_flags(parser: argparse.ArgumentParser) -> None:
    """Add `--policy` and the flags of policies with parameters; `POLICIES` gives the choices."""
    group = parser.add_argument_group("routing policy")
    names = sorted(POLICIES)
    group.add_argument("--policy", choices=names, default=DEFAULT_POLICY, help="policy for all roles (%(default)s)")
    group.add_argument("--prefill-policy", choices=names, help="policy for prefill servers, if another")
    group.add_argument("--decode-policy", choices=names, help="policy for decode servers, if another")
    group.add_argument(
        "--cache-threshold",
        "--cache-match-threshold",
        type=float,
        default=CacheAwareSettings.cache_threshold,
        help="cache_aware: share of a prompt's characters or token ids above which a worker that has it cached is "
        "preferred (%(default)s)",
    )
    group.add_argument(
        "--balance-abs-threshold",
        "--spill-abs-threshold",
        type=int,
        default=CacheAwareSettings.balance_abs_threshold,
        help="cache_aware: the least loaded worker is chosen when loads differ by more than this (%(default)s); "
        "bucket: in characters of late",
    )
    group.add_argument(
        "--balance-rel-threshold",
        "--spill-rel-threshold",
        type=float,
        default=CacheAwareSettings.balance_rel_threshold,
        help="cache_aware, bucket: and the highest load is more than this times the lowest (%(default)s)",
    )
    group.add_argument(
        "--eviction-interval-secs",
        type=float,
        default=CacheAwareSettings.eviction_interval_secs,
        help="cache_aware: seconds after which the prompts of an absent worker are forgotten (%(default)g)",
    )
    group.add_argument(
        "--max-tree-size",
        type=int,
        default=CacheAwareSettings.max_tree_size,
        help="cache_aware: largest prefix tree of each worker, in each process of the router, in characters; a token "
        f"id counts as {TOKEN_CHARACTERS}, each node of the tree as {NODE_OVERHEAD} (%(default)s)",
    )


def cache_aware_settings(parser: argparse.ArgumentParser, args: argparse.Namespace) -> CacheAwareSettings:
    """The settings in the parsed flags; calls `parser.error`, which exits, on an invalid one."""
    try:
        return CacheAwareSettings(
            cache_threshold=args.cache_threshold,
            balance_abs_threshold=args.balance_abs_threshold,
            balance_rel_threshold=args.balance_rel_threshold,
            eviction_interval_secs=args.eviction_interval_secs,
            max_tree_size=args.max_tree_size,
        )
    except ValueError as error:
        parser.error(str(error))
