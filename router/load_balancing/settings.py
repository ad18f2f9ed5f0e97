"""The flags of the policies with parameters, but for those of `cache_aware`."""

from dataclasses import dataclass

from router.config.flags import flag
from router.load_balancing.routing_context import ROUTING_KEY_HEADERS

ASSIGNMENT_MODES = ("random", "min_load", "min_group")


@dataclass(frozen=True)
class PolicySettings:
    """Parameters of the policies; names and defaults are those of sglang-router and smg."""

    routing_key_headers: tuple[str, ...] = flag(
        "--routing-key-headers",
        default=ROUTING_KEY_HEADERS,
        multiple=True,
        help_text="headers that may have a request's routing key; the first that has one counts",
    )
    assignment_mode: str = flag(
        "--assignment-mode",
        default="random",
        choices=ASSIGNMENT_MODES,
        help_text="manual: who gets a new routing key: anyone, the worker with the fewest requests, or with the fewest "
        "keys",
    )
    max_idle_secs: float = flag(
        "--max-idle-secs",
        "--sticky-key-idle-secs",
        default=4 * 3600,
        value_type=float,
        exclusive_minimum=0,
        help_text="manual: seconds after which an unused routing key is forgotten",
    )
    max_routing_keys: int = flag(
        "--max-routing-keys",
        default=100_000,
        minimum=1,
        help_text="manual: routing keys that are remembered, for each role; the least recently used go first",
    )
    prefix_token_count: int = flag(
        "--prefix-token-count",
        default=256,
        minimum=1,
        help_text="prefix_hash: tokens of a prompt that count, or four times as many characters",
    )
    prefix_hash_load_factor: float = flag(
        "--prefix-hash-load-factor",
        default=1.25,
        minimum=1,
        help_text="prefix_hash: a worker is overloaded when its load is more than this times the average",
    )
    prefix_hash_balance_abs_threshold: int = flag(
        "--prefix-hash-balance-abs-threshold",
        default=10,
        minimum=0,
        help_text="prefix_hash: and more than the average by over so many requests",
    )
    bucket_adjust_interval_secs: float = flag(
        "--bucket-adjust-interval-secs",
        default=5,
        value_type=float,
        exclusive_minimum=0,
        help_text="bucket: seconds between adjustments of the lengths, and for which prompts count",
    )
    kv_pressure_weight: float = flag(
        "--least-load-kv-pressure-weight",
        default=0.15,
        minimum=0,
        help_text="least_load: seconds that a worker with half of its KV in use seems behind one with none",
    )
    throughput: float = flag(
        "--least-load-default-throughput",
        default=2000.0,
        exclusive_minimum=0,
        help_text="least_load: tokens that a worker does in a second",
    )
    mean_prefill_tokens: int = flag(
        "--least-load-mean-prefill-tokens",
        default=1024,
        minimum=1,
        help_text="least_load: tokens of a request whose length is not known",
    )
