"""The base classes of all load-balancing policies."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from router.load_balancing.prompt_prefix import PromptPrefix
from router.load_balancing.routing_context import NO_CONTEXT, RoutingContext
from router.workers.worker import Worker

InProcesses = Literal["alike", "told", "worse"]


class RequestWatch:
    """Tells a policy what became of a request that it placed; does nothing unless a policy learns from it.

    `given_up` is called at the end in any case, and has no effect after `ended`.
    """

    def first_token(self) -> None:
        """The first of the answer's tokens came, or a prefill server has ended its part."""

    def ended(self, tokens: int | None) -> None:
        """The answer is complete; `tokens` are its tokens, None if they are not known."""

    def given_up(self) -> None:
        """It failed, was refused, or its client left: how long it took says nothing."""


UNWATCHED = RequestWatch()


class Policy(ABC):
    """Chooses a worker for each request.

    There is one instance for each role (prefill, decode, plain); it serves all models. It may keep state about workers,
    but only with weak references (`WeakKeyDictionary`), so that a worker which leaves the registry is forgotten. What
    clients make it keep has a bound.

    Attributes:
        uses_server_loads: Whether it reads `Worker.server_load`, so that the servers are asked for it.
        uses_kv_events: Whether it reads `Worker.kv_blocks`, so that the servers' KV events are followed.
        obeys_target: Whether a client may name the worker itself (`RoutingContext.target_worker`).
        in_processes: What becomes of it in a router of several processes, each of which has its own: it chooses as one
            would (`alike`), or does if it is told what the others chose (`told`), or it would choose worse (`worse`).
    """

    uses_server_loads: ClassVar[bool] = False
    uses_kv_events: ClassVar[bool] = False
    obeys_target: ClassVar[bool] = False
    in_processes: ClassVar[InProcesses] = "worse"

    @abstractmethod
    def choose(self, workers: Sequence[Worker], context: RoutingContext = NO_CONTEXT) -> Worker:
        """Choose one of `workers`. Called once for each request, so it should take microseconds.

        Args:
            workers: The workers of one model and role that may get the request, never empty. `Worker.load.in_flight`
                is the number of requests in flight on a worker.
            context: What is known of the request.
        """

    def sent(self, worker: Worker, *, streams: bool) -> RequestWatch:
        """A request is sent to the worker that was just chosen for it; the caller tells what becomes of it.

        Args:
            worker: The worker, whose `load` does not count the request yet.
            streams: Whether its first token is seen when it comes, and not only with the whole answer.
        """
        return UNWATCHED


class BranchingPolicy(Policy):
    """A policy that counts which of its rules decided.

    Attributes:
        branch_metric: The name of the counter, without `_total`.
        branches: Choices by rule; the names are those of sglang-router and smg.
    """

    branch_metric: ClassVar[str]

    def __init__(self) -> None:
        self.branches: Counter[str] = Counter()


class PromptPolicy(BranchingPolicy):
    """A policy that remembers which prompts it gave to which worker, and does so for other processes of the router.

    Attributes:
        announce: Called with each prompt that it gives to a worker; None while nobody listens.
    """

    announce: Callable[[Worker, PromptPrefix], None] | None = None

    @abstractmethod
    def placed_elsewhere(self, worker: Worker, prompt: PromptPrefix) -> None:
        """Another process of the router has given a prompt to a worker, as its policy announced."""
