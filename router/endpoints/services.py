"""The objects that endpoints work with; the server makes them once."""

from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from router.access.key_ring import KeyRing
from router.agent_runs.service import AgentRuns
from router.dispatch.dispatcher import Dispatcher
from router.endpoints.drain import DrainEndpoints
from router.endpoints.inference import RunOwners
from router.endpoints.trees import TreeEndpoint
from router.endpoints.workers import WorkerEndpoints
from router.forwarding.forwarder import Forwarder
from router.observability.run_store import RunStore
from router.worker_supervision.supervisor import WorkerSupervisor


@dataclass(frozen=True)
class EndpointServices:
    """What handlers need of the rest of the router.

    Attributes:
        dispatcher: Chooses workers (`dispatcher.registry`) and sends to them.
        supervisor: Warms up, watches and removes workers.
        forwarder: Forwards requests to workers, with retries.
        trees: Answers requests to trees.
        agent_runs: Answers requests with `run`.
        run_store: The traces of recent runs.
        workers: Adds, changes and removes workers.
        drain: Lets requests in unless the router is being drained.
        keys: The API keys.
        collectors: The metrics.
        judge_state: Tells the state of early exit's judge, as `Judge.state`.
        request_timeout: Seconds for a whole response.
        peers: The router's other processes; None if there is one.
    """

    dispatcher: Dispatcher
    supervisor: WorkerSupervisor
    forwarder: Forwarder
    trees: TreeEndpoint
    agent_runs: AgentRuns
    run_store: RunStore
    workers: WorkerEndpoints
    drain: DrainEndpoints
    keys: KeyRing
    collectors: CollectorRegistry
    judge_state: Callable[[], str]
    request_timeout: float
    peers: RunOwners | None = None
