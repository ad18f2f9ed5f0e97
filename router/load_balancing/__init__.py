"""Load balancing: policies that choose the worker for a request, and the table of all policies by name."""

from collections.abc import Callable

from router.load_balancing.basic_policies import Passthrough, PowerOfTwo, Random, RoundRobin
from router.load_balancing.bucket import Bucket
from router.load_balancing.cache_aware import CacheAware, CacheAwareSettings
from router.load_balancing.consistent_hashing import ConsistentHashing
from router.load_balancing.least_load import LeastLoad
from router.load_balancing.manual import Manual
from router.load_balancing.policy import UNWATCHED, Policy, PromptPolicy, RequestWatch
from router.load_balancing.predicted_latency import PredictedLatency
from router.load_balancing.prefix_hash import PrefixHash
from router.load_balancing.prompt_prefix import PromptKind, PromptPrefix, prompt_prefix, token_prefix
from router.load_balancing.routing_context import NO_CONTEXT, RoutingContext, routing_context
from router.load_balancing.settings import PolicySettings

__all__ = [
    "DEFAULT_POLICY",
    "NO_CONTEXT",
    "POLICIES",
    "UNWATCHED",
    "Bucket",
    "CacheAware",
    "CacheAwareSettings",
    "ConsistentHashing",
    "LeastLoad",
    "Manual",
    "Passthrough",
    "Policy",
    "PolicySettings",
    "PowerOfTwo",
    "PredictedLatency",
    "PrefixHash",
    "PromptKind",
    "PromptPolicy",
    "PromptPrefix",
    "Random",
    "RequestWatch",
    "RoundRobin",
    "RoutingContext",
    "make_policy",
    "prompt_prefix",
    "routing_context",
    "token_prefix",
]

DEFAULT_POLICY = "cache_aware"
# By the name in `--policy`. The flags' choices and the names in metrics follow from this table.
POLICIES: dict[str, type[Policy]] = {
    "bucket": Bucket,
    "cache_aware": CacheAware,
    "consistent_hashing": ConsistentHashing,
    "least_load": LeastLoad,
    "manual": Manual,
    "passthrough": Passthrough,
    "power_of_two": PowerOfTwo,
    "predicted_latency": PredictedLatency,
    "prefix_hash": PrefixHash,
    "random": Random,
    "round_robin": RoundRobin,
}


def make_policy(
    name: str, cache_aware: CacheAwareSettings, settings: PolicySettings | None = None, process: int = 0
) -> Policy:
    """Create a policy by its name in `POLICIES`, for process `process` of the router.

    Raises:
        KeyError: There is none of this name.
    """
    with_parameters: dict[str, Callable[[], Policy]] = {
        "bucket": lambda: Bucket(settings, cache_aware),
        "cache_aware": lambda: CacheAware(cache_aware),
        "least_load": lambda: LeastLoad(settings),
        "manual": lambda: Manual(settings),
        "predicted_latency": lambda: PredictedLatency(cache_aware),
        "prefix_hash": lambda: PrefixHash(settings),
        "round_robin": lambda: RoundRobin(process),
    }
    return with_parameters.get(name, POLICIES[name])()
