"""Frozen lengths of answers: drawn once from a lognormal distribution, kept in `length_traces/`, asked for exactly.

    python -m launch.experiment.lengths      # writes the shipped traces again, the same bytes

A question has a length for each place in a tree: nine of the first layer, nine of those between, and sixteen final
answers. So an agent answers as long in every arm, and trees of other shapes share the lengths of the places they have.
"""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from launch.errors import ConfigError
from router.moa.tree import Tree

FOLDER = Path(__file__).parent / "length_traces"
PLACES = {"first": 9, "middle": 9, "final": 16}
QUESTIONS = 128
SECOND_LAYER_PROMPT = 2048
SECOND_LAYER_SEED = 43


@dataclass(frozen=True)
class Distribution:
    """A lognormal distribution of lengths in tokens, cut at `cap`."""

    median: float
    sigma: float
    cap: int
    seed: int

    def draw(self, generator: random.Random) -> int:
        """One length, at least one token."""
        length = self.median * generator.lognormvariate(0, self.sigma)
        return max(1, min(self.cap, round(length)))


SHIPPED = {
    "chat": Distribution(median=400, sigma=0.7, cap=16384, seed=7),
    "reasoning": Distribution(median=400, sigma=1.2, cap=65535, seed=12),
}
"""`chat` and `reasoning` differ in sigma, which decides what early exit can save; `scale` moves the median."""


def generate(distribution: Distribution, questions: int = QUESTIONS) -> list[dict[str, list[int]]]:
    """The lengths of each question, by place; the same for the same seed on every machine."""
    generator = random.Random(distribution.seed)
    return [
        {place: [distribution.draw(generator) for _ in range(count)] for place, count in PLACES.items()}
        for _ in range(questions)
    ]


@dataclass(frozen=True)
class LengthTrace:
    """Lengths by question and place; `questions[i]["first"]` are those of the first layer."""

    questions: list[dict[str, list[int]]]
    scale: float = 1.0

    def lengths(self, index: int, tree: Tree, answers: int = 1) -> dict[str, int]:
        """Tokens of each agent for question `index`, in turn; `final#2` is the second final answer.

        Raises:
            ConfigError: The tree has more agents than the trace has lengths.
        """
        question = self.questions[index % len(self.questions)]
        asked: dict[str, int] = {}
        taken = dict.fromkeys(PLACES, 0)
        last = len(tree.layers) - 1
        for layer, _, agent in tree.agents():
            place = "final" if layer == last else "middle" if layer else "first"
            names = (
                [agent.name, *(f"{agent.name}#{k}" for k in range(2, answers + 1))] if layer == last else [agent.name]
            )
            for name in names:
                if taken[place] == len(question[place]):
                    raise ConfigError(f"the tree {tree.name!r} has more agents than the trace has lengths ({place}).")
                asked[name] = max(1, round(question[place][taken[place]] * self.scale))
                taken[place] += 1
        return asked


def second_layer(output: int) -> LengthTrace:
    """Prompts of a second layer as in the paper's figure 4(iii): U(1, 2048) tokens to read, `output` to write."""
    generator = random.Random(SECOND_LAYER_SEED)
    reads = [[generator.randint(1, SECOND_LAYER_PROMPT) for _ in range(PLACES["first"])] for _ in range(QUESTIONS)]
    rest = {"middle": [output] * PLACES["middle"], "final": [1] * PLACES["final"]}
    return LengthTrace([{"first": first, **rest} for first in reads])


def sampling_for(lengths: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """What makes servers answer exactly so many tokens: `moa.sampling` of a request."""
    return {name: {"max_tokens": tokens, "ignore_eos": True} for name, tokens in lengths.items()}


def load_lengths(name: str, folder: Path, scale: float = 1.0) -> LengthTrace:
    """A shipped trace by its name, or a file; raises `ConfigError` when it cannot be read.

    `second-layer:256` is made of its name: `second_layer` with 256 tokens, which alone are scaled.
    """
    if match := re.fullmatch(r"second-layer:([1-9][0-9]{0,4})", name):
        return second_layer(round(int(match[1]) * scale))
    path = FOLDER / f"{name}.json" if name in SHIPPED else folder / name
    try:
        questions = orjson.loads(path.read_bytes())["questions"]
        if not questions:
            raise ValueError
        whole = [
            {place: [int(length) for length in question[place] if int(length) > 0] for place in PLACES}
            for question in questions
        ]
    except OSError as error:
        raise ConfigError(
            f"the lengths {path} cannot be read ({error.strerror}); shipped: {', '.join(SHIPPED)}."
        ) from None
    except (ValueError, TypeError, KeyError):
        raise ConfigError(f"{path} has no lengths: `questions` with {', '.join(PLACES)} are needed.") from None
    return LengthTrace(whole, scale)


def trace_bytes(distribution: Distribution) -> bytes:
    """The file of a shipped trace: the distribution and one line for each question."""
    lines = ",\n".join(orjson.dumps(question).decode() for question in generate(distribution))
    told = orjson.dumps(distribution).decode()
    return f'{{"distribution": {told},\n"questions": [\n{lines}\n]}}\n'.encode()


if __name__ == "__main__":
    for shipped, of in SHIPPED.items():
        (FOLDER / f"{shipped}.json").write_bytes(trace_bytes(of))
