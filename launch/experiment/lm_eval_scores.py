"""Does lm-evaluation-harness score the answers of an experiment as it was scored here?

    python -m launch.experiment.lm_eval_scores DIR --benchmark gsm8k --data gsm8k.jsonl

The answers are those of the log, so nothing differs but how they are read. Filter and metric are the harness's own, as
the task of the installed package has them; no servers are needed. A run with several final answers, of which one was
voted for, is scored by the text that was chosen.
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson
import yaml
from rich.console import Console
from rich.table import Table

from launch.errors import ConfigError, LaunchError
from launch.experiment.benchmarks import BenchmarkError, Question, benchmark
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import read_runs

Scorer = Callable[[Question, str], bool]


def gsm8k() -> Scorer:
    """The task `gsm8k` with its filter `flexible-extract`, which takes the last number of a text.

    Its other filter wants "#### 7", which the prompt here does not ask for.
    """
    import lm_eval
    from lm_eval.api.metrics import exact_match_hf_evaluate
    from lm_eval.filters import get_filter  # they are registered there

    task = yaml.safe_load((Path(lm_eval.__file__).parent / "tasks/gsm8k/gsm8k.yaml").read_text())
    (metric,) = task["metric_list"]
    options = {name: value for name, value in metric.items() if name.startswith(("ignore_", "regexes_to_"))}
    (steps,) = (each["filter"] for each in task["filter_list"] if each["name"] == "flexible-extract")
    filters = [get_filter(step.pop("function"))(**step) for step in steps]

    def is_right(question: Question, text: str) -> bool:
        found: Any = [[text]]
        for each in filters:
            found = list(each.apply(found, [{}]))
        # The reference is the data set's whole solution, of which the metric leaves the number.
        told = exact_match_hf_evaluate(predictions=found, references=[question.reference], **options)
        return bool(told["exact_match"])

    return is_right


SCORERS: Mapping[str, Callable[[], Scorer]] = {"gsm8k": gsm8k}
"""By benchmark: what makes the harness's scorer; it raises `ModuleNotFoundError` without the package."""


def agreement(
    lines: Iterable[RunLine], questions: Mapping[str, Question], scorer: Scorer
) -> dict[str, dict[str, float]]:
    """By arm: `runs`, the mean scores `here` and by `lm_eval`, and how many runs are `right_here_alone` and there.

    Args:
        lines: The runs of one benchmark. Those that failed are left out.
        questions: By id.
        scorer: The harness's.

    Raises:
        ConfigError: A run's question is not among them.
    """
    pairs: dict[str, list[tuple[bool, bool]]] = {}
    for line in lines:
        if line.error is not None or line.score is None:
            continue
        if line.question not in questions:
            raise ConfigError(f"the log has the question {line.question}, which the data has not; give the same data.")
        there = scorer(questions[line.question], line.texts[line.chosen])
        pairs.setdefault(line.arm, []).append((line.score == 1, there))
    return {
        arm: {
            "runs": len(both),
            "here": sum(here for here, _ in both) / len(both),
            "lm_eval": sum(there for _, there in both) / len(both),
            "right_here_alone": both.count((True, False)),
            "right_there_alone": both.count((False, True)),
        }
        for arm, both in pairs.items()
    }


def table_of(told: Mapping[str, Mapping[str, float]]) -> Table:
    """A row for each arm."""
    table = Table("arm", "runs", "here", "lm-eval", "right here alone", "right there alone", box=None)
    for arm, row in told.items():
        scores = f"{row['here']:.1%}", f"{row['lm_eval']:.1%}"
        table.add_row(arm, str(row["runs"]), *scores, str(row["right_here_alone"]), str(row["right_there_alone"]))
    return table


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.experiment.lm_eval_scores",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="of an experiment")
    parser.add_argument("--benchmark", choices=list(SCORERS), default="gsm8k", help="(default: gsm8k)")
    parser.add_argument("--data", metavar="PLACE", help="where the benchmark's data is, as of the experiment")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    try:
        lines = [line for line in read_runs(options.folder) if line.benchmark == options.benchmark]
        questions = {each.id: each for each in benchmark(options.benchmark).read(options.data).questions}
        told = agreement(lines, questions, SCORERS[options.benchmark]())
        if not told:
            raise ConfigError(f"{options.folder} has no scored runs of {options.benchmark}.")
    except (LaunchError, BenchmarkError) as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        print(f"launch: {error.name} is not installed: pip install 'lm-eval[api]'.", file=sys.stderr)
        return 2
    Console(width=140).print(table_of(told), highlight=False)
    if options.out is not None:
        figures = {"benchmark": options.benchmark, "arms": told}
        options.out.write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2) + b"\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
