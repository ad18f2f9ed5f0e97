"""Load balancing: policies that choose the worker for a request, and the table of all policies by name."""

from collections.abc import Callable

from router.load_balancing.basic_policies import PowerOfTwo, Random, RoundRobin
from router.load_balancing.cache_aware import CacheAware, CacheAwareSettings
from router.load_balancing.policy import Policy
from router.load_balancing.prompt_prefix import PromptKind, PromptPrefix, prompt_prefix, token_prefix

__all__ = [
    "DEFAULT_POLICY",
    "POLICIES",
    "CacheAware",
    "CacheAwareSettings",
    "Policy",
    "PowerOfTwo",
    "PromptKind",
    "PromptPrefix",
    "Random",
    "RoundRobin",
    "make_policy",
    "prompt_prefix",
    "token_prefix",
]

DEFAULT_POLICY = "cache_aware"
# By the name in `--policy`. The flags' choices and the names in metrics follow from this table.
POLICIES: dict[str, Callable[[], Policy]] = {
    "cache_aware": CacheAware,
    "power_of_two": PowerOfTwo,
    "random": Random,
    "round_robin": RoundRobin,
}


def make_policy(name: str, cache_aware: CacheAwareSettings) -> Policy:
    """Create a policy by its name in `POLICIES`; raises `KeyError` for an unknown name."""
    if name == "cache_aware":
        return CacheAware(cache_aware)
    return POLICIES[name]()
