"""The ways to run an agent's call on a model's workers: one entry for each kind of engine."""

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Protocol

from router.moa.agent_call import AgentCall
from router.moa.agent_on_pair import run_on_pair
from router.moa.agent_on_plain import run_on_plain
from router.moa.run_context import RunContext
from router.workers.registry import Registry


class RunAgentCall(Protocol):
    """Runs one attempt of an agent's call.

    A backend builds the prompt from `call.draft` and `call.upstream`, sends the request and follows the stream. It
    awaits `call.before_sending()` when the prompt is complete, and calls `call.mark_sent()` once the request goes out,
    `call.update()` for each event, and `call.finish()` at the end of the stream. Servers that fail are added to
    `call.failed_workers`, and avoided where there are others.
    """

    def __call__(self, context: RunContext, call: AgentCall) -> AsyncGenerator[str]:
        """Yield the answer's new text, event by event; some texts are empty.

        Raises:
            RouterError: A server failed, or an upstream answer did.
        """


@dataclass(frozen=True)
class AgentBackend:
    """One kind of engine behind an agent.

    Attributes:
        name: Its name in traces, as `backend`.
        serves: Whether the workers of a model are of this kind.
        run: Runs one attempt.
    """

    name: str
    serves: Callable[[Registry, str], bool]
    run: RunAgentCall


# The first that serves a model runs its agents.
BACKENDS = (
    AgentBackend("pair", lambda registry, model: registry.served_by_pairs(model), run_on_pair),
    AgentBackend("plain", lambda _registry, _model: True, run_on_plain),
)


def backend_for(registry: Registry, model: str) -> AgentBackend:
    """The backend that runs the agents of a model now; workers may come and go between two attempts."""
    return next(backend for backend in BACKENDS if backend.serves(registry, model))
