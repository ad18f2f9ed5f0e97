"""The agents of a tree: its structures as a trees file has them, and their checks.

    name: moa
    layers:
      - clusters:
          - name: proposers-1
            agents:
              - {name: proposer-1, role: "Answer briefly.", max_tokens: 128}
      - clusters:
          - name: final
            agents:
              - {name: final, reads: [proposers-1], max_tokens: 256}

An agent without `model` gets one of the served models in turn; `largest`, `smallest` and `rank:N` are roles by size
(`model_roles`). `reads` names clusters of earlier
layers; the last layer is one cluster of one agent, whose answer is the tree's.
"""

import math
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, Self

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from router.early_exit import ExitRule
from router.speculative_prefill.composition import AnswerOrder

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*\Z", max_length=64)]
Sampling = dict[str, Any]

# Fields of an agent's request that the run sets itself, so that `sampling` must not.
SET_BY_RUN = ("model", "messages", "prompt", "text", "input_ids", "stream", "stream_options", "n", "rid")

Arm = Literal["dense", "tree", "splice", "exit"]


def check_sampling(sampling: Sampling, prefix: str = "") -> None:
    """Raise `ValueError` for a key that the run sets itself; `prefix` begins the message."""
    key = next((key for key in SET_BY_RUN if key in sampling), None)
    if key is not None:
        raise ValueError(f"{prefix}{key!r} is no sampling parameter; the run sets it itself")


class Agent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One LLM call with a role.

    Attributes:
        name: Unique in its tree.
        model: Name of a served model, or a role by size; None takes one in turn.
        role: Its system prompt; None takes the default of its position in the tree.
        reads: Clusters of earlier layers whose answers it reads.
        max_tokens: Most tokens it may answer.
        sampling: Sampling parameters of OpenAI's API, over the model's defaults.
    """

    name: Name
    model: str | None = None
    role: str | None = None
    reads: tuple[str, ...] = ()
    max_tokens: Annotated[int, Meta(ge=1)] = 256
    sampling: Sampling = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_sampling(self.sampling)


class Cluster(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Agents side by side whose answers go to the same readers."""

    name: Name
    agents: Annotated[tuple[Agent, ...], Meta(min_length=1)]


class Layer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Clusters that can run at the same time."""

    clusters: Annotated[tuple[Cluster, ...], Meta(min_length=1)]


class Tree(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A checked tree.

    Attributes:
        name: The model name it is asked by.
        arm: `dense` has each agent read the whole layer before it and waits for whole answers; `tree` has it read
            what `reads` says, and waits; `splice` prefills readers while their upstreams still decode; `exit`
            does too, and a cluster whose answers agree does not wait for its last agents.
        order: Of the answers in a reader's prompt: as they end, or as declared.
        exit: When a cluster exits early, in the arm `exit`.
        retries: How often an agent that failed is asked again.
        timeout: Seconds for which an agent's server may say nothing.
        layers: The agents.
    """

    name: Name
    arm: Arm = "splice"
    order: AnswerOrder = "completion"
    exit: ExitRule = ExitRule()
    retries: Annotated[int, Meta(ge=0, le=10)] = 1
    timeout: Annotated[float, Meta(gt=0)] = 300.0
    layers: Annotated[tuple[Layer, ...], Meta(min_length=1)]

    def agents(self) -> Iterator[tuple[int, Cluster, Agent]]:
        """Every agent with its layer's index and its cluster, in order."""
        for index, layer in enumerate(self.layers):
            for cluster in layer.clusters:
                for agent in cluster.agents:
                    yield index, cluster, agent

    @property
    def final(self) -> Agent:
        """The agent whose answer is the tree's."""
        return self.layers[-1].clusters[0].agents[0]

    def with_agents(self, change: Callable[[int, Agent], Agent]) -> Self:
        """The tree with each agent replaced; `change` gets the index of its layer and the agent."""

        def changed(index: int, cluster: Cluster) -> Cluster:
            return replace(cluster, agents=tuple(change(index, agent) for agent in cluster.agents))

        layers = (
            replace(layer, clusters=tuple(changed(index, cluster) for cluster in layer.clusters))
            for index, layer in enumerate(self.layers)
        )
        return replace(self, layers=tuple(layers))

    def dense(self) -> Self:
        """The same agents, each of which reads all clusters of the layer before it."""
        names = [tuple(cluster.name for cluster in layer.clusters) for layer in self.layers]
        return self.with_agents(lambda index, agent: replace(agent, reads=names[index - 1]) if index else agent)

    def __post_init__(self) -> None:
        if not math.isfinite(self.timeout):
            raise ValueError("`timeout` must be a finite number of seconds")
        self._check_names()
        self._check_reads()
        last = self.layers[-1].clusters
        if len(last) != 1 or len(last[0].agents) != 1:
            raise ValueError("the last layer must be one cluster of one agent, whose answer is the tree's")

    def _check_names(self) -> None:
        agents = [agent.name for _, _, agent in self.agents()]
        clusters = [cluster.name for layer in self.layers for cluster in layer.clusters]
        for kind, names in (("agent", agents), ("cluster", clusters)):
            duplicate = next((name for name in names if names.count(name) > 1), None)
            if duplicate is not None:
                raise ValueError(f"two {kind}s are called {duplicate!r}; names must be unique in a tree")

    def _check_reads(self) -> None:
        earlier: set[str] = set()
        read: set[str] = set()
        for index, layer in enumerate(self.layers):
            for cluster in layer.clusters:
                for agent in cluster.agents:
                    unknown = set(agent.reads) - earlier
                    if unknown:
                        allowed = ", ".join(sorted(earlier)) or "none, it is in the first layer"
                        raise ValueError(
                            f"agent {agent.name!r} reads {sorted(unknown)[0]!r}, which is not a cluster of an "
                            f"earlier layer (allowed: {allowed})"
                        )
                    duplicate = next((name for name in agent.reads if agent.reads.count(name) > 1), None)
                    if duplicate is not None:
                        raise ValueError(f"agent {agent.name!r} reads {duplicate!r} twice; name each cluster once")
                    if index and not agent.reads:
                        raise ValueError(f"agent {agent.name!r} of a later layer reads nothing; give it `reads`")
                    read.update(agent.reads)
            earlier.update(cluster.name for cluster in layer.clusters)
        unread = earlier - read - {self.layers[-1].clusters[0].name}
        if unread:
            raise ValueError(f"nobody reads the cluster {sorted(unread)[0]!r}; add it to an agent's `reads`")
