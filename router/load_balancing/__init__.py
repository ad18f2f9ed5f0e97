"""Which worker a request goes to."""

from collections.abc import Callable

from router.load_balancing.cache_aware import CacheAware, CacheAwareSettings
from router.load_balancing.policy import Policy
from router.load_balancing.prefix import PromptKind, PromptPrefix, prompt_prefix, token_prefix
from router.load_balancing.simple import PowerOfTwo, Random, RoundRobin

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
POLICIES: dict[str, Callable[[], Policy]] = {
    "cache_aware": CacheAware,
    "power_of_two": PowerOfTwo,
    "random": Random,
    "round_robin": RoundRobin,
}


def make_policy(name: str, cache_aware: CacheAwareSettings) -> Policy:
    """A new policy by its name, with the parameters it has; raises `KeyError` for no policy's name."""
    if name == "cache_aware":
        return CacheAware(cache_aware)
    return POLICIES[name]()
