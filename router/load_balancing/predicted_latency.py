"""The policy `predicted_latency`: the worker on which a request costs the least time, its own and that of others.

The idea is llm-d's: to predict for each server the time to the first token and the time a token after it, from what
waits there, what of the prompt is cached there and how many run there, by a model that learns from the traffic itself.
There the model is a forest of trees beside the router; here it is five numbers for each worker.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import ClassVar
from weakref import WeakKeyDictionary

import numpy as np

from router.load_balancing.cache_aware import CacheAwareSettings
from router.load_balancing.cached_prompt import CachedPrompt, prompt_sent
from router.load_balancing.latency_fit import USUAL, LatencyFit, Vector, features
from router.load_balancing.load_estimates import requests_on
from router.load_balancing.policy import Policy, RequestWatch
from router.load_balancing.prefix_tree import PrefixTree
from router.load_balancing.prompt_prefix import TOKEN_CHARACTERS, PromptPrefix
from router.load_balancing.routing_context import NO_CONTEXT, RoutingContext
from router.workers.worker import Worker

REFRESH_SECS = 1.0  # after which coefficients are solved for again, as what was seen ages
MODEL_TRUST, WORKER_TRUST = 1.0, 8.0  # observations against which the usual, and the model's other workers, weigh
LATER = 0.25  # what a second after the first token counts, and one that other requests lose
ANSWER_DECAY = 0.99  # of the mean length of answers, for each new one


class _ModelState:
    """What was seen of a model's workers together."""

    def __init__(self) -> None:
        self.fit = LatencyFit(MODEL_TRUST)
        self.answer_tokens = 0.0  # of an answer, on average; 0 before the first

    def answered(self, tokens: int) -> None:
        if not self.answer_tokens:
            self.answer_tokens = float(tokens)
        self.answer_tokens = ANSWER_DECAY * self.answer_tokens + (1 - ANSWER_DECAY) * tokens


@dataclass(slots=True)
class _WorkerState:
    """What is known of one worker.

    Attributes:
        identity: Its model and process; another one has an empty cache and other latencies.
        tree: The prompts sent to it.
        fit: How long it takes.
        coefficients: Solved from the fit, in seconds.
        solved_at: When.
        waiting: Tokens to prefill of requests that wait for their first token, each with the time after which it is
            taken to be prefilled.
        last_chosen: Number of the choice that last chose it; 0 for never.
        last_own: The tokens that were to be prefilled of the request for which it was chosen last.
        last_requests: The requests that were on it then.
    """

    identity: tuple[str | None, int]
    tree: PrefixTree
    fit: LatencyFit = field(default_factory=lambda: LatencyFit(WORKER_TRUST))
    coefficients: tuple[float, ...] = ()
    solved_at: float = 0.0
    waiting: WeakKeyDictionary["_Watch", tuple[float, float]] = field(default_factory=WeakKeyDictionary)
    last_chosen: int = 0
    last_own: float = 0.0
    last_requests: float = 0.0


class PredictedLatency(Policy):
    """Chooses the least cost in seconds, by latencies that it has seen.

    On each worker a request would wait for prefills that wait there, be prefilled where its cache ends, and decode an
    answer of average length beside what runs. The coefficients come from a fit for each worker (`latency_fit`), which
    follows the model's other workers as far as little was seen of this one of late: one that seemed slow is tried
    again. What comes after the first token counts a quarter, and so does the time by which the request holds up what
    runs there. Ties go to the worker chosen longest ago.
    """

    uses_server_loads: ClassVar[bool] = True
    uses_kv_events: ClassVar[bool] = True

    def __init__(
        self, settings: CacheAwareSettings | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_tree_size = (settings or CacheAwareSettings()).max_tree_size
        self._clock = clock
        self._states: WeakKeyDictionary[Worker, _WorkerState] = WeakKeyDictionary()
        self._models: dict[str | None, _ModelState] = {}  # as many as models were served
        self._choices = count(1)

    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose the worker on which the request costs least, and add its prompt to that worker's tree."""
        now, prompt = self._clock(), context.prompt
        states = [self._state_of(worker) for worker in workers]
        own, requests = _uncached_tokens(workers, states, prompt), requests_on(workers)
        best = 0
        if len(workers) > 1:
            costs = [
                (self._cost(worker, state, tokens, load, now), state.last_chosen)
                for worker, state, tokens, load in zip(workers, states, own, requests, strict=True)
            ]
            best = costs.index(min(costs))
        state = states[best]
        state.last_chosen, state.last_own, state.last_requests = next(self._choices), own[best], requests[best]
        if prompt is not None:
            prompt_sent(workers[best], state.tree, prompt)
        return workers[best]

    def sent(self, worker: Worker, *, streams: bool) -> RequestWatch:
        """As of `Policy`."""
        return _Watch(self._model_of(worker), self._state_of(worker), self._clock, streams=streams)

    def _cost(self, worker: Worker, state: _WorkerState, own: float, requests: float, now: float) -> float:
        """What a request with so many tokens to prefill costs beside so many others there, in seconds."""
        model = self._model_of(worker)
        prefill, token, beside, decode, decode_beside = self._coefficients(state, model, now)
        first = prefill + token * (_waiting_tokens(state, now) + own) + beside * requests
        rest = model.answer_tokens * (decode + decode_beside * requests)
        # Others wait while it is prefilled, and have one more beside them for half of their answers on average.
        others = requests * (token * own + decode_beside * model.answer_tokens / 2)
        return first + LATER * (rest + others)

    def _model_of(self, worker: Worker) -> _ModelState:
        return self._models.setdefault(worker.model, _ModelState())

    def _coefficients(self, state: _WorkerState, model: _ModelState, now: float) -> tuple[float, ...]:
        if not state.coefficients or now - state.solved_at >= REFRESH_SECS:
            shared = model.fit.solve(np.ones(5), now)
            state.coefficients = tuple((state.fit.solve(shared, now) * USUAL).tolist())
            state.solved_at = now
        return state.coefficients

    def _state_of(self, worker: Worker) -> _WorkerState:
        identity = worker.model, worker.health.restarts
        state = self._states.get(worker)
        if state is None or state.identity != identity:
            state = self._states[worker] = _WorkerState(identity, PrefixTree(self._max_tree_size))
        return state


class _Watch(RequestWatch):
    """One request on one worker."""

    def __init__(self, model: _ModelState, state: _WorkerState, clock: Callable[[], float], *, streams: bool) -> None:
        self._model, self._state, self._clock, self._streams = model, state, clock, streams
        self._requests = state.last_requests
        self._began = clock()
        self._tokens = _waiting_tokens(state, self._began) + state.last_own
        self._first_at: float | None = None
        due = math.inf
        if not streams and state.coefficients:
            prefill, token, beside, *_ = state.coefficients
            due = self._began + prefill + token * self._tokens + beside * self._requests
        state.waiting[self] = state.last_own, due

    def first_token(self) -> None:
        """As of `RequestWatch`."""
        if self._first_at is None and self._streams:
            self._first_at = self._clock()
            self._state.waiting.pop(self, None)
            self._see(self._first_at - self._began, features(self._tokens, self._requests, 0, prefilled=True))

    def ended(self, tokens: int | None) -> None:
        """As of `RequestWatch`."""
        now = self._clock()
        if tokens is not None and tokens > 1:
            self._model.answered(tokens)
            if self._first_at is None:
                self._see(now - self._began, features(self._tokens, self._requests, tokens, prefilled=True))
            else:
                self._see(now - self._first_at, features(0, self._requests, tokens - 1, prefilled=False))
        self.given_up()

    def given_up(self) -> None:
        """As of `RequestWatch`."""
        self._state.waiting.pop(self, None)

    def _see(self, latency: float, seen: Vector) -> None:
        now = self._clock()
        self._model.fit.see(latency, seen, now)
        self._state.fit.see(latency, seen, now)


def _waiting_tokens(state: _WorkerState, now: float) -> float:
    """The tokens that wait for their prefill on a worker."""
    return sum(tokens for tokens, due in state.waiting.values() if due > now)


def _uncached_tokens(
    workers: Sequence[Worker], states: Sequence[_WorkerState], prompt: PromptPrefix | None
) -> list[float]:
    """The tokens of a prompt that each worker would have to prefill."""
    if prompt is None:
        return [0.0] * len(workers)
    cached, length, tokens = CachedPrompt(prompt), len(prompt.chars), prompt.unit / TOKEN_CHARACTERS
    return [(length - cached.on(worker, state.tree)) * tokens for worker, state in zip(workers, states, strict=True)]
