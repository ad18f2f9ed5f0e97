"""What one run is of: its tree, its question, and how its agents sample."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from router.moa.messages import Messages
from router.moa.tree import Tree


@dataclass(frozen=True)
class RunPlan:
    """What one run is of.

    Attributes:
        tree: The tree.
        models: Model name by agent name.
        question: The client's messages, or its token ids for models that run without a tokenizer.
        sampling: Default sampling by model name.
        final_sampling: The client's sampling parameters, for the final agent.
        agent_sampling: Sampling parameters by agent, over all others.
        template_options: For the chat templates of all agents' prompts.
        n: Number of final answers.
        seed: Of the draws of early exit; None takes a random one.
        streaming: Whether the client gets the text as it comes: then the final answer cannot begin anew.
        owner: The namespace of the client.
    """

    tree: Tree
    models: Mapping[str, str]
    question: Messages | list[int]
    sampling: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    final_sampling: Mapping[str, Any] = field(default_factory=dict)
    agent_sampling: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    template_options: Mapping[str, Any] = field(default_factory=dict)
    n: int = 1
    seed: int | None = None
    streaming: bool = True
    owner: str = ""

    @property
    def of_token_ids(self) -> bool:
        """Whether the question is token ids."""
        return isinstance(self.question[0], int)

    def sampling_of(self, name: str, model: str, own: Mapping[str, Any], client: Mapping[str, Any]) -> dict[str, Any]:
        """An agent's sampling: its model's defaults, its own, the client's, and what the request says of this agent."""
        return {**self.sampling.get(model, {}), **own, **client, **self.agent_sampling.get(name, {})}

    def sampling_of_final(self, k: int) -> Mapping[str, Any]:
        """The client's sampling for final answer k, with a seed of its own: else n answers would be the same."""
        seed = self.final_sampling.get("seed")
        return self.final_sampling if seed is None else {**self.final_sampling, "seed": seed + k}
