"""Trees: what agents there are, who reads whom, and the checks of a configuration file.

    models:                       # default sampling of each model, optional
      smollm2-a: {temperature: 0}
    trees:
      - name: moa
        layers:
          - clusters:
              - name: proposers-1
                agents:
                  - {name: proposer-1, role: "Answer briefly.", max_tokens: 128}
          - clusters:
              - name: final
                agents:
                  - {name: final, reads: [proposers-1], max_tokens: 256}

An agent without `model` gets one of the served models in turn. `reads` names clusters of earlier
layers; the last layer is one cluster of one agent, whose answer is the tree's.
"""

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from router.config.structs import InvalidValue, read_struct
from router.early_exit import ExitRule
from router.errors import BadRequest
from router.speculative_prefill.composition import AnswerOrder

Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*\Z", max_length=64)]
Sampling = dict[str, Any]

# Fields of a request that the run sets itself: as sampling they would replace what it asks.
SET_BY_RUN = ("model", "messages", "prompt", "text", "input_ids", "stream", "stream_options", "n", "rid")


Arm = Literal["dense", "tree", "splice", "exit"]


def _check_sampling(given: Sampling, place: str = "") -> None:
    strange = next((key for key in SET_BY_RUN if key in given), None)
    if strange is not None:
        raise ValueError(f"{place}{strange!r} is no sampling parameter; the run sets it itself")


class Agent(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One LLM call with a role.

    Attributes:
        name: Unique in its tree.
        model: Name of a served model; None takes one in turn.
        role: Its system prompt; None takes the default of its place in the tree.
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
        _check_sampling(self.sampling)


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
        """Every agent with its layer's number and its cluster, in order."""
        for number, layer in enumerate(self.layers):
            for cluster in layer.clusters:
                for agent in cluster.agents:
                    yield number, cluster, agent

    @property
    def final(self) -> Agent:
        """The agent whose answer is the tree's."""
        return self.layers[-1].clusters[0].agents[0]

    def with_agents(self, change: Callable[[int, Agent], Agent]) -> Self:
        """The tree with each agent replaced; `change` gets the number of its layer and the agent."""

        def changed(number: int, cluster: Cluster) -> Cluster:
            return replace(cluster, agents=tuple(change(number, agent) for agent in cluster.agents))

        layers = (
            replace(layer, clusters=tuple(changed(number, cluster) for cluster in layer.clusters))
            for number, layer in enumerate(self.layers)
        )
        return replace(self, layers=tuple(layers))

    def dense(self) -> Self:
        """The same agents, each reading all clusters of the layer before it."""
        names = [tuple(cluster.name for cluster in layer.clusters) for layer in self.layers]
        return self.with_agents(lambda number, agent: replace(agent, reads=names[number - 1]) if number else agent)

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
            double = next((name for name in names if names.count(name) > 1), None)
            if double is not None:
                raise ValueError(f"two {kind}s are called {double!r}; names must be unique in a tree")

    def _check_reads(self) -> None:
        earlier: set[str] = set()
        read_struct: set[str] = set()
        for number, layer in enumerate(self.layers):
            for cluster in layer.clusters:
                for agent in cluster.agents:
                    strange = set(agent.reads) - earlier
                    if strange:
                        allowed = ", ".join(sorted(earlier)) or "none, it is in the first layer"
                        raise ValueError(
                            f"agent {agent.name!r} reads {sorted(strange)[0]!r}, which is not a cluster of an "
                            f"earlier layer (allowed: {allowed})"
                        )
                    double = next((name for name in agent.reads if agent.reads.count(name) > 1), None)
                    if double is not None:
                        raise ValueError(f"agent {agent.name!r} reads {double!r} twice; name each cluster once")
                    if number and not agent.reads:
                        raise ValueError(f"agent {agent.name!r} of a later layer reads nothing; give it `reads`")
                    read_struct.update(agent.reads)
            earlier.update(cluster.name for cluster in layer.clusters)
        unread = earlier - read_struct - {self.layers[-1].clusters[0].name}
        if unread:
            raise ValueError(f"nobody reads the cluster {sorted(unread)[0]!r}; add it to an agent's `reads`")


class Trees(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A configuration file: trees, and default sampling by model."""

    models: dict[str, Sampling] = field(default_factory=dict)
    trees: Annotated[tuple[Tree, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        for model, sampling in self.models.items():
            _check_sampling(sampling, f"models.{model}: ")
        names = [tree.name for tree in self.trees]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(f"two trees are called {double!r}; names must be unique")


SHIPPED_TREES = Path(__file__).parent / "trees"
DEFAULT_TREE = "tree-3x3-3-1"


def shipped_trees() -> list[str]:
    """Names of the trees that come with the router."""
    return sorted(path.stem for path in SHIPPED_TREES.glob("*.yaml"))


def load_trees(path: Path | None) -> Trees:
    """The trees of a YAML or JSON file, or of a shipped one by its name; without any the default tree.

    Raises:
        BadRequest: The file cannot be read or is wrong; one sentence names the file and the key.
    """
    if path is None or str(path) in shipped_trees():
        path = SHIPPED_TREES / f"{path or DEFAULT_TREE}.yaml"
    try:
        text = path.read_text()
        value = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise BadRequest(
            f"the trees file {path} cannot be read ({error.strerror}); shipped: {', '.join(shipped_trees())}."
        ) from None
    except RecursionError:
        raise BadRequest(f"the trees file {path} is not valid (it is nested too deeply).") from None
    except (ValueError, yaml.YAMLError) as error:
        raise BadRequest(f"the trees file {path} is not valid ({' '.join(str(error).split())}).") from None
    return read_trees(value, f"the trees file {path}")


def read_trees(value: object, source: str) -> Trees:
    """Checked trees from parsed YAML or JSON; `source` names it in the error.

    Raises:
        BadRequest: One sentence that names the key and what is wrong with it.
    """
    try:
        return read_struct(Trees, value)
    except InvalidValue as wrong:
        raise BadRequest(f"{source} is wrong at {wrong.path or 'the top'}: {wrong.reason}.") from None
