"""The policy that predicts latencies: what it learns, from what, and how it forgets."""

import gc
import random

import numpy as np
import pytest

from router.load_balancing import PredictedLatency, PromptPrefix, RoutingContext
from router.load_balancing.latency_fit import USUAL, LatencyFit, features
from router.load_balancing.predicted_latency import _waiting_tokens
from router.workers.worker import Worker
from tests.router.load_balancing.groups import report, workers

LONG = 8_000  # tokens


class Clock:
    """A time that stands still."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def prompt(tokens: int, seed: int = 0) -> RoutingContext:
    """A prompt of so many token ids; those of different seeds share nothing."""
    return RoutingContext(
        PromptPrefix("".join(map(chr, range(1_000 * (seed + 1), 1_000 * (seed + 1) + tokens))), "tokens")
    )


def serve(policy: PredictedLatency, clock: Clock, worker: Worker, first: float, *, tokens: int, seed: int) -> None:
    """Let a worker serve a request whose first token comes after so many seconds."""
    assert policy.choose([worker], prompt(tokens, seed)) is worker
    watch = policy.sent(worker, streams=True)
    clock.now += first
    watch.first_token()
    clock.now += 0.5
    watch.ended(50)


@pytest.mark.parametrize("whole", [False, True])
def test_coefficients_are_found_from_streams_and_from_whole_answers(whole: bool) -> None:
    true = USUAL * [0.8, 0.3, 1.5, 0.25, 0.2]
    fit, rng, now = LatencyFit(trust=0.1), random.Random(3), 0.0
    for _ in range(400):
        waiting, requests, answer = rng.randrange(8_000), rng.randrange(20), rng.randrange(2, 400)
        seen = [features(waiting, requests, answer, prefilled=True)]
        if not whole:
            seen = [features(waiting, requests, 0, prefilled=True), features(0, requests, answer, prefilled=False)]
        for each in seen:
            fit.see(float(each @ true) * rng.uniform(0.95, 1.05), each, now)
        now += 0.05
    assert fit.solve(np.ones(5), now) * USUAL == pytest.approx(true, rel=0.35)


def test_the_faster_worker_is_found() -> None:
    clock, group = Clock(), workers(0, 0)
    policy = PredictedLatency(clock=clock)
    for number in range(10):
        serve(policy, clock, group[0], 0.5, tokens=LONG, seed=2 * number)
        serve(policy, clock, group[1], 0.1, tokens=LONG, seed=2 * number + 1)
    assert [policy.choose(group, prompt(LONG, 50 + number)) for number in range(3)] == [group[1]] * 3


def test_a_worker_that_was_slow_is_tried_again_later() -> None:
    clock, group = Clock(), workers(0, 0)
    policy = PredictedLatency(clock=clock)
    for number in range(20):
        serve(policy, clock, group[0], 3.0, tokens=LONG, seed=number)
        serve(policy, clock, group[1], 0.1, tokens=LONG, seed=30 + number)
    group[1].load.requests = 3
    assert policy.choose(group, prompt(LONG, 80)) is group[1]
    for number in range(200):  # only the other one serves meanwhile, in a quarter of an hour
        clock.now += 5
        serve(policy, clock, group[1], 0.1, tokens=LONG, seed=90 + number)
    assert policy.choose(group, prompt(LONG, 81)) is group[0]


def test_a_prompt_goes_where_it_is_cached_unless_too_much_waits_there() -> None:
    clock, group = Clock(), workers(0, 0)
    policy = PredictedLatency(clock=clock)
    serve(policy, clock, group[0], 0.1, tokens=LONG, seed=0)
    assert policy.choose(group, prompt(LONG)) is group[0]
    waiting = []
    for number in range(3):
        policy.choose([group[0]], prompt(LONG, 60 + number))
        waiting.append(policy.sent(group[0], streams=True))
    assert policy.choose(group, prompt(LONG)) is group[1]


def test_requests_of_other_routers_count() -> None:
    group = workers(0, 0)
    group[0].server_load, group[1].server_load = report(20), report(1)
    policy = PredictedLatency()
    assert {policy.choose(group, prompt(100, number)) for number in range(4)} == {group[1]}


@pytest.mark.parametrize("how", ["first token", "given up", "forgotten"])
def test_what_waits_is_released(how: str) -> None:
    clock, group = Clock(), workers(0, 0)
    policy = PredictedLatency(clock=clock)
    policy.choose(group[:1], prompt(LONG))
    watch = policy.sent(group[0], streams=True)
    assert len(policy._states[group[0]].waiting) == 1
    match how:
        case "first token":
            watch.first_token()
        case "given up":
            watch.given_up()
    del watch
    gc.collect()
    assert not policy._states[group[0]].waiting


def test_a_request_that_failed_teaches_nothing() -> None:
    clock, group = Clock(), workers(0)
    policy = PredictedLatency(clock=clock)
    policy.choose(group, prompt(LONG))
    watch = policy.sent(group[0], streams=False)
    clock.now += 500
    watch.given_up()
    policy.choose(group, prompt(LONG, 1))
    ended = policy.sent(group[0], streams=False)
    ended.ended(None)  # of unknown length
    assert not policy._states[group[0]].fit._gram.any()


def test_a_whole_answer_waits_for_its_prefill_no_longer_than_expected() -> None:
    clock, group = Clock(), workers(0, 0)
    policy = PredictedLatency(clock=clock)
    for number in range(5):
        serve(policy, clock, group[0], 0.1, tokens=LONG, seed=number)
        serve(policy, clock, group[1], 0.1, tokens=LONG, seed=10 + number)
    first = policy.choose(group, prompt(LONG, 51))
    watch = policy.sent(first, streams=False)
    assert policy.choose(group, prompt(LONG, 52)) is not first
    assert _waiting_tokens(policy._states[first], clock.now) == LONG
    assert _waiting_tokens(policy._states[first], clock.now + 10) == 0
    watch.ended(20)


def test_a_new_process_has_nothing_cached() -> None:
    clock, group = Clock(), workers(0, 0)
    policy = PredictedLatency(clock=clock)
    serve(policy, clock, group[0], 0.1, tokens=LONG, seed=0)
    group[0].health.restarts += 1
    policy.choose(group, prompt(LONG))
    assert sorted(state.last_own for state in policy._states.values()) == [0, LONG]
