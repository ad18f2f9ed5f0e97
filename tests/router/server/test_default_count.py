"""How many processes a router has by itself."""

import pytest

from router.cli.parser import parse
from router.server.processes.default_count import MAX_DEFAULT_PROCESSES, default_process_count, with_process_count

PAIR = ["--pd-disaggregation", "--prefill", "http://127.0.0.1:1", "8998", "--decode", "http://127.0.0.1:2"]
IN_TURN = ["--policy", "round_robin"]


def count(*flags: str, cores: int = 64) -> int:
    return default_process_count(parse([*PAIR, *flags]), cores)


@pytest.mark.parametrize("policy", ["round_robin", "random", "consistent_hashing"])
def test_one_for_each_core_where_the_policy_remembers_nothing(policy: str) -> None:
    assert count("--policy", policy, cores=2) == 2
    assert count("--policy", policy) == MAX_DEFAULT_PROCESSES
    assert count("--policy", policy, cores=1) == 1


@pytest.mark.parametrize(
    "flags",
    [
        [],  # cache_aware
        ["--policy", "manual"],
        [*IN_TURN, "--decode-policy", "power_of_two"],
        [
            "--policy",
            "cache_aware",
            "--prefill-policy",
            "random",
            "--decode-policy",
            "random",
        ],  # plain servers' is left
        [*IN_TURN, "--max-concurrent-requests", "100"],
        [*IN_TURN, "--rate-limit-tokens-per-second", "100"],
        [*IN_TURN, "--pd-admission-wait-secs", "5"],
        [*IN_TURN, "--prefill-max-inflight-requests-per-worker", "5"],
        [*IN_TURN, "--api-keys-file", "keys.yaml"],
        [*IN_TURN, "--trees", "dense"],
    ],
)
def test_one_where_several_would_do_worse(flags: list[str]) -> None:
    assert count(*flags) == 1


def test_a_number_that_is_given_counts() -> None:
    settings = parse([*PAIR, *IN_TURN])
    assert settings.server.workers == 0
    assert with_process_count(settings, 2).server.workers == 2
    assert with_process_count(parse(PAIR), 2).server.workers == 1
    assert with_process_count(parse([*PAIR, "--workers", "3"]), 2).server.workers == 3
