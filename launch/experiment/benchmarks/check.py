"""Checks benchmarks against data sets: `python -m launch.experiment.benchmarks.check --data DIR [NAME ...]`.

The data set's own right answers must all score; the right answers of other questions must score about as often as
chance has it. Where a data set has no right answers, as IFBench, other questions' prompts are scored as answers, which
shows that its verifiers run. Exit code 0 when all is so, 1 when not, 2 for a wrong input.
"""

import argparse
import logging
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table

from launch.experiment.benchmarks.benchmark import Benchmark, Question
from launch.experiment.benchmarks.errors import BenchmarkError, DataError
from launch.experiment.benchmarks.registry import BENCHMARKS, benchmark


@dataclass(frozen=True)
class Checked:
    """What the check of one benchmark found.

    Attributes:
        rows: Rows of the data set.
        refused: Those whose answers cannot be scored here.
        right: Of `asked` right answers, how many scored; the ids of those that did not are in `wrong`.
        asked: Questions that have a right answer.
        tried: Questions that were scored with the answer of another question of the same task.
        shuffled: How many of those scored.
        expected: How many of those had the same answer by chance.
        seconds: For everything.
    """

    rows: int
    refused: int
    right: int
    asked: int
    wrong: list[str]
    tried: int
    shuffled: int
    expected: int
    seconds: float


def check(benchmark: Benchmark, place: str | Path | None, limit: int | None = None, seed: int = 0) -> Checked:
    """Score a data set's right answers, and those of other questions; raises as `Benchmark.load` does."""
    began = time.monotonic()
    reading = benchmark.read(place)
    has_gold = any(each.reference for each in reading.questions)
    questions = [each for each in reading.questions if each.reference or not has_gold]
    if limit is not None and len(questions) > limit:
        questions = Random(seed).sample(questions, limit)
    others = shuffled(questions, seed)
    with ThreadPoolExecutor(2) as pool:
        right = list(pool.map(benchmark.score, questions, [each.reference for each in questions])) if has_gold else []
        by_chance = list(pool.map(benchmark.score, questions, [each.reference or each.prompt for each in others]))
    return Checked(
        rows=len(reading.questions) + len(reading.refused),
        refused=len(reading.refused),
        right=sum(right),
        asked=len(right),
        wrong=[each.id for each, ok in zip(questions, right, strict=False) if not ok],
        tried=len(questions),
        shuffled=sum(by_chance),
        expected=sum(a.gold == b.gold for a, b in zip(questions, others, strict=True)) if has_gold else 0,
        seconds=time.monotonic() - began,
    )


def shuffled(questions: list[Question], seed: int) -> list[Question]:
    """For each question another one of the same task, drawn from `seed`; a lone one stays its own."""
    tasks = defaultdict(list)
    for at, each in enumerate(questions):
        tasks[each.task].append(at)
    others = list(questions)
    for places in tasks.values():
        turned = Random(seed).sample(places, len(places))
        for at, other in zip(turned, turned[1:] + turned[:1], strict=True):
            others[at] = questions[other]
    return others


def is_well(found: Checked) -> bool:
    """Whether every right answer scored, and others not more than a few more often than they were the same."""
    by_chance = found.expected + max(2, found.tried // 50)
    return found.right == found.asked and (found.asked == 0 or found.shuffled <= by_chance)


def _row(each: Benchmark, found: Checked) -> list[str]:
    def share(part: int, whole: int) -> str:
        return f"{part}/{whole} {part / whole:.1%}" if whole else "none are published"

    counts = [str(found.rows), str(found.refused), share(found.right, found.asked)]
    by_chance = [share(found.shuffled, found.tried), share(found.expected, found.tried)]
    return [each.title, *counts, *by_chance, f"{found.seconds:.0f}"]


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m launch.experiment.benchmarks.check", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; all by default")
    parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="the folder with the data sets")
    parser.add_argument("--limit", type=int, help="questions of each benchmark")
    parser.add_argument("--seed", type=int, default=0, help="of the shuffling")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.ERROR)
    console = Console(width=None if sys.stdout.isatty() else 140)
    table = Table("benchmark", "rows", "refused", "gold answers score", "shuffled score", "of which the same", "s")
    well, absent, reasons = True, [], Counter[str]()
    try:
        chosen = [benchmark(each) for each in options.names or BENCHMARKS]
        for each in chosen:
            try:
                found = check(each, _place(each, options.data), options.limit, options.seed)
            except DataError as error:
                absent.append(f"{each.title}: {error}")
                well = well and not options.names
                continue
            table.add_row(*_row(each, found))
            well = well and is_well(found)
            reasons.update(question.refusal for question in each.read(_place(each, options.data)).refused)
            absent += [f"{each.title}: wrong on {', '.join(found.wrong[:20])}"] if found.wrong else []
    except BenchmarkError as error:
        print(error, file=sys.stderr)
        return 2
    console.print(table)
    for sentence in [*absent, *(f"{count} refused: {reason}" for reason, count in sorted(reasons.items()))]:
        console.print(sentence, soft_wrap=True, markup=False)
    return 0 if well else 1


def _place(each: Benchmark, folder: Path) -> Path | None:
    """The folder, or None where it has none of the benchmark's files and a package has them."""
    if each.source.packaged is None or any(match for pattern in each.source.files for match in folder.glob(pattern)):
        return folder
    return None


if __name__ == "__main__":
    sys.exit(main())
