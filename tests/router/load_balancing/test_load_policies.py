"""Policies by load and length: least_load, power_of_two, bucket, passthrough."""

import logging
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.load_balancing import (
    Bucket,
    CacheAwareSettings,
    LeastLoad,
    Passthrough,
    PolicySettings,
    PowerOfTwo,
    PromptPrefix,
    RoutingContext,
)
from router.load_balancing.bucket import MAX_MODELS, MAX_PROMPTS
from router.load_balancing.load_estimates import requests_on
from tests.router.load_balancing.groups import report, workers

# Estimates


def test_own_requests_count_from_now_and_those_of_others_from_the_report() -> None:
    group = workers(2, 7, 0)
    group[0].server_load = report(10, own=5)  # 5 of others; of its own 3 have ended since
    group[1].server_load = report(1, own=4)  # it had not seen all yet
    group[2].server_load = report(4)
    assert requests_on(group) == [7, 7, 4]


def test_who_reports_nothing_is_taken_for_average() -> None:
    group = workers(1, 1, 1)
    group[0].server_load, group[1].server_load = report(10), report(20)
    assert requests_on(group) == [11, 21, 16]
    group[0].server_load = group[1].server_load = None
    assert requests_on(group) == [1, 1, 1]


# Least load


@given(st.lists(st.integers(0, 50), min_size=1, max_size=6))
def test_without_reports_the_fewest_requests(loads: list[int]) -> None:
    assert LeastLoad().choose(workers(*loads)).load.requests == min(loads)


def test_idle_workers_are_all_used() -> None:
    policy, group = LeastLoad(), workers(0, 0)
    counts = Counter(policy.choose(group).url for _ in range(200))
    assert min(counts.values()) > 50


def test_each_choice_counts_at_once() -> None:
    """Between two reports the requests do not all go to who was the least loaded then."""
    policy, group = LeastLoad(), workers(0, 0, 0)
    for worker, requests in zip(group, (6, 0, 3), strict=True):
        worker.server_load = report(requests)
    for _ in range(9):
        policy.choose(group).load.requests += 1
    assert [worker.load.requests for worker in group] == [0, 6, 3]


def test_waiting_tokens_count_as_they_are() -> None:
    """One long prompt that waits is more work than three short ones."""
    group = workers(0, 0)
    group[0].server_load = report(1, waiting=1, tokens=50_000)
    group[1].server_load = report(3, waiting=3, tokens=300)
    assert LeastLoad().choose(group) is group[1]


@pytest.mark.parametrize(("weight", "chosen"), [(0.15, 1), (0.0, 0)])
def test_a_full_cache_counts_as_much_as_the_weight_says(weight: float, chosen: int) -> None:
    group = workers(0, 0)
    group[0].server_load, group[1].server_load = report(2, usage=0.97), report(4, usage=0.2)
    assert LeastLoad(PolicySettings(kv_pressure_weight=weight)).choose(group) is group[chosen]


def test_all_caches_full_is_no_error() -> None:
    group = workers(0, 1)
    group[0].server_load, group[1].server_load = report(2, usage=1.0), report(4, usage=1.0)
    assert LeastLoad().choose(group) is group[0]


# Power of two


def test_power_of_two_sees_requests_of_others() -> None:
    random.seed(1)
    policy, group = PowerOfTwo(), workers(0, 0)
    group[0].server_load, group[1].server_load = report(8), report(0)
    assert {policy.choose(group) for _ in range(30)} == {group[1]}


# Bucket


def prompt(length: int, model: str = "m") -> RoutingContext:
    return RoutingContext(PromptPrefix("a" * length) if length else None, model=model)


NEVER_IMBALANCED = CacheAwareSettings(balance_abs_threshold=10**9)


def test_lengths_at_the_start_and_after_an_interval() -> None:
    now = 0.0
    policy = Bucket(PolicySettings(bucket_adjust_interval_secs=5), NEVER_IMBALANCED, clock=lambda: now)
    group = workers(0, 0, 0)

    def chosen(*lengths: int) -> list[int]:
        return [group.index(policy.choose(group, prompt(length))) for length in lengths]

    assert chosen(0, 1364, 1365, 2729, 2730, 9999) == [0, 0, 1, 1, 2, 2]
    now = 6.0
    assert chosen(5, 10, 15, 20, 24, 26) == [0, 0, 0, 0, 0, 0], "most characters were in the one long prompt"
    now = 11.0
    assert chosen(20, 21, 24, 25) == [0, 1, 1, 2], "5 + 10 + 15 + 20, 24, 26"
    now = 100.0
    assert chosen(20, 21, 24, 25) == [0, 1, 1, 2], "nothing of late is known"


def test_token_ids_count_as_characters() -> None:
    policy, group = Bucket(), workers(0, 0)
    assert policy.choose(group, RoutingContext(PromptPrefix("a" * 600, "tokens"))) is group[1]


def test_the_workers_share_the_characters() -> None:
    """Prompts of equal length have one bucket; the thresholds see to it that others get some too."""
    now = 0.0
    policy, group = Bucket(clock=lambda: now), workers(0, 0, 0)
    sent: Counter[str] = Counter()
    for number in range(300):
        now = number / 10
        sent[policy.choose(group, prompt(100)).url] += 100
    assert min(sent.values()) > 6000, "10,000 each on average"


@given(st.lists(st.tuples(st.sets(st.integers(0, 4), min_size=1), st.integers(0, 9000)), max_size=40))
def test_workers_and_time_come_and_go(steps: list[tuple[set[int], int]]) -> None:
    now = 0.0
    policy, group = Bucket(clock=lambda: now), workers(0, 0, 0, 0, 0)
    for there, length in steps:
        now += length / 1000
        candidates = [group[i] for i in there]
        assert policy.choose(candidates, prompt(length)) in candidates


def test_prompts_and_models_are_bounded() -> None:
    policy, group = Bucket(clock=lambda: 0.0), workers(0, 0)
    for number in range(MAX_PROMPTS + 10):
        policy.choose(group, prompt(number % 7))
    lengths = policy._models["m"]
    assert len(lengths._prompts) == MAX_PROMPTS
    assert sum(lengths.sent_to.values()) == sum(length for _, length, _ in lengths._prompts)
    for number in range(MAX_MODELS):
        policy.choose(group, prompt(1, f"model {number}"))
    assert len(policy._models) == MAX_MODELS
    assert "m" not in policy._models


# Passthrough


def test_passthrough_takes_the_first_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    policy, group = Passthrough(), workers(5, 0)
    with caplog.at_level(logging.WARNING):
        assert {policy.choose(group) for _ in range(5)} == {group[0]}
    assert [record.getMessage() for record in caplog.records] == [
        "the policy passthrough sends everything to http://127.0.0.1:1, of 2 workers."
    ]
