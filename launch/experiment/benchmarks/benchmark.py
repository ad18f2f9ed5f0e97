"""The contract of benchmarks: questions, and a benchmark that loads them and scores answers."""

import importlib.util
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from launch.experiment.benchmarks.data import Row, RowError, Source, rows_of, sample
from launch.experiment.benchmarks.errors import BenchmarkError, DataError, MissingPackage, Unscorable

log = logging.getLogger(__name__)

_THOUGHT_ENDS = "</think>"
_THOUGHT_BEGINS = "<think>"


@dataclass(frozen=True)
class Question:
    """One question of a benchmark.

    Attributes:
        id: Unique in its benchmark, and the same in every load of the same data set: "gsm8k/17".
        prompt: What the model is asked.
        gold: The right answer, as people read it; "" where only a check tells what is right.
        task: The subject or part of the benchmark that it belongs to: "word_sorting"; "" where there are none.
        reference: A text that is a right answer, from the data set; "" where it has none.
        detail: What the scorer needs besides: options, tests, instructions.
        refusal: Why its answers cannot be scored here, in a sentence; "" where they can.
    """

    id: str
    prompt: str
    gold: str
    task: str = ""
    reference: str = ""
    detail: Mapping[str, Any] = field(default_factory=dict)
    refusal: str = ""

    @property
    def messages(self) -> list[dict[str, str]]:
        """The prompt as messages of a chat."""
        return [{"role": "user", "content": self.prompt}]


@dataclass(frozen=True)
class Reading:
    """What a data set has: questions that can be scored, and those that are refused."""

    questions: list[Question]
    refused: list[Question]


@dataclass(frozen=True)
class Benchmark:
    """A benchmark: how its rows become questions, how an answer is found in a text, and when it is right.

    Attributes:
        name: As users write it: "gsm8k".
        title: As its authors write it: "GSM8K".
        source: Where its data set is.
        question: A row as a question; raises `RowError` where the row has not the published form. Its id is the
            row's own, without the benchmark's name; "" for the row's number.
        finder: The answer that a text gives, None where it gives none.
        scorer: Whether a text answers a question rightly.
        comparison: Whether two answers to a question are the same one; by default, when they are the same text.
        metric: What the mean of the scores is called: "accuracy", "pass@1".
        packages: The libraries that score it, as they are imported.
        prepare: Called before the rows are read; raises a `BenchmarkError` where this machine cannot score it.
    """

    name: str
    title: str
    source: Source
    question: Callable[[Row], Question]
    finder: Callable[[str], str | None]
    scorer: Callable[[Question, str], bool]
    comparison: Callable[[Question, str, str], bool] = lambda _, a, b: a == b
    metric: str = "accuracy"
    packages: tuple[str, ...] = ()
    prepare: Callable[[], None] = lambda: None

    def load(self, place: str | Path | None = None, limit: int | None = None, seed: int = 0) -> list[Question]:
        """The questions that can be scored here, in an order drawn from `seed`.

        Args:
            place: A file in the published form; a folder with it; "hub", "hub:OWNER/NAME" or "hub:OWNER/NAME:CONFIG" to
                download it; None for a package that has it.
            limit: How many; None for all. A larger sample of the same seed begins with the smaller one.
            seed: Of the draw.

        Raises:
            BenchmarkError: The data set is missing or wrong, or this machine cannot score it.
        """
        if limit is not None and limit < 1:
            raise BenchmarkError(f"A sample of {limit} questions of {self.title} was asked for: ask for 1 or more.")
        reading = self.read(place)
        if reading.refused:
            log.warning(
                "%s: %d questions are left out. %s", self.title, len(reading.refused), _reasons(reading.refused)
            )
        if not reading.questions:
            raise DataError(f"No question of {self.title} can be scored here. {_reasons(reading.refused)}")
        return sample(reading.questions, limit, seed)

    def read(self, place: str | Path | None = None) -> Reading:
        """The whole data set, in its own order, with the questions that are refused; raises as `load` does."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                name = package.replace("_", "-")
                raise MissingPackage(f"{self.title} is scored with {name}, which is not installed: pip install {name}.")
        self.prepare()
        questions: dict[str, Question] = {}
        for row in rows_of(self.source, place):
            question = self._question(row)
            if question.id in questions:
                raise DataError(f"{self.title} has two rows with the id {question.id} in {row.file}.")
            questions[question.id] = question
        if not questions:
            raise DataError(f"The data set of {self.title} has no rows: give {self.source.published}.")
        return Reading([q for q in questions.values() if not q.refusal], [q for q in questions.values() if q.refusal])

    def _question(self, row: Row) -> Question:
        try:
            question = self.question(row)
        except RowError as error:
            raise DataError(f"Row {row.number} of {row.file} {error}: this is not {self.source.published}.") from error
        values = {**vars(question), "id": f"{self.name}/{question.id or row.number}"}
        return Question(**values)

    def extract(self, text: str) -> str | None:
        """The answer that a model's text gives; None where it gives none. What it thought before does not count."""
        return self.finder(without_thoughts(text))

    def same(self, question: Question, a: str, b: str) -> bool:
        """Whether two answers that were found are the same one, so that votes for both count together. It may block."""
        return a == b or self.comparison(question, a, b)

    def score(self, question: Question, text: str) -> bool:
        """Whether a model's text answers the question rightly. It blocks, for seconds at worst: call it from a thread.

        Raises:
            Unscorable: The question is one that `load` leaves out.
            BenchmarkError: The library or the sandbox that scores it failed.
        """
        if question.refusal:
            raise Unscorable(question.refusal)
        answer = without_thoughts(text)
        return bool(answer.strip()) and self.scorer(question, answer)


def without_thoughts(text: str) -> str:
    """A reasoning model's text after its thoughts; nothing where they do not end."""
    _, ended, answer = text.rpartition(_THOUGHT_ENDS)
    if ended:
        return answer
    return "" if text.lstrip().startswith(_THOUGHT_BEGINS) else text


def _reasons(refused: list[Question]) -> str:
    return " ".join(sorted({each.refusal for each in refused}))
