"""What the experiment needs of a benchmark, and two small ones that need no data.

`sums` is for tests and trials; `token-ids` is for models with dummy weights, which have no tokenizer.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from launch.config.validation import did_you_mean
from launch.errors import ConfigError
from launch.experiment.benchmarks import BENCHMARKS, BenchmarkError, benchmark

VOCABULARY = 1000
"""Token ids below it are in every vocabulary, and above those that chat templates use in most."""
SPECIAL_IDS = 10


@dataclass(frozen=True)
class Question:
    """One question: what the agents get, and the right answer.

    Attributes:
        id: Unique in its benchmark, and the same in every process.
        messages: The conversation; empty for token ids.
        input_ids: The prompt as token ids, for models without a tokenizer.
        gold: The right answer; None where there is none.
    """

    id: str
    messages: Sequence[dict[str, Any]] = ()
    gold: Any = None
    input_ids: Sequence[int] = ()


class Benchmark(Protocol):
    """Loader, extractor and scorer. Its questions have the fields of `Question`; `input_ids` may be missing."""

    def load(self, place: str | None, limit: int | None, seed: int) -> Sequence[Any]:
        """At most `limit` questions, the same ones in the same order for the same seed; raises `LaunchError`.

        `place` is where the data is, in words that the benchmark understands; None is its own place.
        """

    def extract(self, text: str) -> str | None:
        """The final answer of a text, to be voted on; None where there is none."""

    def same(self, question: Any, a: str, b: str) -> bool:
        """Whether two extracted answers are the same one, so that votes for both count together. It may block."""

    def score(self, question: Any, text: str) -> float | None:
        """How right a text is, in [0, 1]; None where the questions have no right answers.

        It may block, and is called in a thread. Raises `LaunchError` when it cannot be said.
        """


class Sums:
    """Sums of two numbers."""

    def load(self, place: str | None, limit: int | None, seed: int) -> list[Question]:
        """Questions from the seed alone."""
        draw = random.Random(f"sums:{seed}")
        pairs = [(draw.randrange(100), draw.randrange(100)) for _ in range(limit or 100)]
        return [
            Question(f"sums-{index}", ({"role": "user", "content": f"What is {a} + {b}?"},), str(a + b))
            for index, (a, b) in enumerate(pairs)
        ]

    def extract(self, text: str) -> str | None:
        """The last number."""
        numbers = re.findall(r"\d+", text)
        return numbers[-1] if numbers else None

    def same(self, question: Question, a: str, b: str) -> bool:
        """The same figures."""
        return a == b

    def score(self, question: Question, text: str) -> float:
        """1 if the last number is the sum, else 0."""
        return float(self.extract(text) == question.gold)


class TokenIds:
    """Prompts of random token ids, 64 to 512 long; without right answers."""

    def load(self, place: str | None, limit: int | None, seed: int) -> list[Question]:
        """Questions from the seed alone."""
        draw = random.Random(f"token-ids:{seed}")
        return [
            Question(
                f"ids-{index}",
                input_ids=[draw.randrange(SPECIAL_IDS, VOCABULARY) for _ in range(draw.randint(64, 512))],
            )
            for index in range(limit or 100)
        ]

    def extract(self, text: str) -> None:
        """There is no answer in them."""

    def same(self, question: Question, a: str, b: str) -> bool:
        """Never asked, since no answer is ever found."""
        return False

    def score(self, question: Question, text: str) -> None:
        """There are no right answers."""


WITHOUT_DATA: dict[str, Benchmark] = {"sums": Sums(), "token-ids": TokenIds()}


def benchmark_names() -> list[str]:
    """The names of all benchmarks."""
    return [*BENCHMARKS, *WITHOUT_DATA]


def find_benchmark(name: str) -> Benchmark:
    """A benchmark by its name; raises `ConfigError` when there is none."""
    if name in WITHOUT_DATA:
        return WITHOUT_DATA[name]
    try:
        return benchmark(name)
    except BenchmarkError:
        names = benchmark_names()
        raise ConfigError(f"there is no benchmark called {name!r}{did_you_mean(name, names)}.") from None
