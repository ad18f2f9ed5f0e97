"""Would other forms of Q have decided otherwise? Over the decisions of an experiment whose log has the agents' texts.

    python -m launch.experiment.decision_agreement DIR --embedding-model builtin:minilm

Four forms: embeddings of whole answers (pooled) or the correlation of their tokens' hidden states, each with P over
pairs i < j, or over all (i, j) as in the paper's algorithm 1. With the diagonal P is

    P' = (2 sum over i < j of c_i c_j S_ij + sum of c_i^2) / (2 sum over i < j of c_i c_j + sum of c_i^2)

since S_ii = 1. Each form is compared with the same u that was drawn for the decision, or with the least Q of the rule,
and with what was decided: the arm's own form must have decided the same, unless another embedding model is used here.
"""

import argparse
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from launch.errors import ConfigError, LaunchError
from launch.experiment.config import ExperimentConfig
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import read_identity, read_runs
from launch.experiment.trees import trees_of
from router.early_exit import BUILTIN_MODEL, ExitRule

AS_RECORDED = "as recorded"
FORMS = ("pooled", "pooled, i = j", "correlation", "correlation, i = j")


@dataclass(frozen=True)
class Recorded:
    """A decision of the log: the answers' texts and confidences, the u that was drawn, and whether Q said exit."""

    texts: tuple[str, ...]
    confidences: tuple[float, ...]
    u: float | None
    exit: bool

    def says_exit(self, q: float, rule: ExitRule) -> bool:
        """Whether a Q would have said exit; never for NaN."""
        return q >= rule.q_min if self.u is None else self.u < q


def recorded_decisions(lines: Iterable[RunLine], arm: str) -> list[Recorded]:
    """The decisions of an arm that Q took part in; raises `ConfigError` when the log has no texts of agents."""
    found = []
    for line in lines:
        if line.arm != arm or line.error is not None:
            continue
        if not any("text" in agent for agent in line.run["agents"]):
            raise ConfigError("the log has no texts of agents; run the experiment with `agent_texts: true`.")
        texts = {agent["agent"]: agent.get("text", "") for agent in line.run["agents"]}  # what is empty is not written
        for decision in line.run["decisions"]:
            if decision.get("Q") is None:
                continue
            answers = [texts[name] for name in decision["answers"]]
            confidences = [math.nan if each is None else each for each in decision["confidences"]]
            told = Recorded(tuple(answers), tuple(confidences), decision.get("u"), decision.get("by") == "q")
            found.append(told)
    return found


def q_of(confidences: Sequence[float], s: Sequence[Sequence[float]], rule: ExitRule, *, diagonal: bool) -> float:
    """Q of a cluster by its N confidences and N x N similarities; NaN where a confidence is, 0 where all are 0."""
    import torch
    from qmetric.reference import scores

    similarities, weights = (torch.tensor([each], dtype=torch.float64) for each in (s, confidences))
    if diagonal:
        similarities[0].fill_diagonal_(1.0)  # also of an answer without words, which is like nothing
    q, _, _ = scores(similarities, weights, None, rule.gamma, rule.tau, torch.float64, diagonal=diagonal)
    return float(q)


def decisions_by_form(
    recorded: Sequence[Recorded], similarities: Mapping[str, Sequence[Any]], rule: ExitRule
) -> dict[str, list[bool]]:
    """What was decided, and what each form would have; `similarities` has the N x N matrices by kind."""
    return {AS_RECORDED: [each.exit for each in recorded]} | {
        form: [
            each.says_exit(q_of(each.confidences, s, rule, diagonal=form.endswith("i = j")), rule)
            for each, s in zip(recorded, similarities[form.split(",")[0]], strict=True)
        ]
        for form in FORMS
    }


def measured_similarities(recorded: Sequence[Recorded], model: str, m: int) -> dict[str, list[list[list[float]]]]:
    """The similarities of each decision's answers, by a sentence-embedding model on this machine."""
    from qmetric import correlation_cosine, frobenius_cosine

    from router.early_exit.embedding_model import load_embedder

    embedder = load_embedder(model, "auto")
    assert embedder.tokens is not None
    found: dict[str, list[list[list[float]]]] = {"pooled": [], "correlation": []}
    for each in recorded:
        vectors = embedder.embed([(text, m) for text in each.texts])
        stacked = vectors[0].new_empty((1, len(vectors), *vectors[0].shape))
        for row, vector in zip(stacked[0], vectors, strict=True):
            row.copy_(vector)
        found["pooled"].append(frobenius_cosine(stacked)[0].tolist())
        found["correlation"].append(correlation_cosine(embedder.tokens.of(each.texts)).tolist())
    return found


def table_of(decided: Mapping[str, Sequence[bool]]) -> Table:
    """A row for each form: how often it exits, and on how many decisions it agrees with each other one."""
    table = Table("form", "exits", *(f"agrees with {form}" for form in decided), box=None)
    for form, own in decided.items():
        shares = [sum(a == b for a, b in zip(own, other, strict=True)) / len(own) for other in decided.values()]
        table.add_row(form, f"{sum(own) / len(own):.1%}", *(f"{share:.1%}" for share in shares))
    return table


def rule_of(identity: Mapping[str, Any], arm: str) -> ExitRule:
    """An arm's rule; raises `ConfigError` when there is no such arm."""
    trees = trees_of(ExperimentConfig.model_validate(identity["config"]))
    if arm not in trees:
        raise ConfigError(f"the experiment has no arm {arm!r}; it has {', '.join(trees)}.")
    return trees[arm].exit


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.experiment.decision_agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="of an experiment")
    parser.add_argument("--arm", default="exit", help="whose decisions (default: exit)")
    parser.add_argument("--embedding-model", default=BUILTIN_MODEL, help=f"as of the router (default: {BUILTIN_MODEL})")
    options = parser.parse_args(arguments)
    try:
        rule = rule_of(read_identity(options.folder), options.arm)
        recorded = recorded_decisions(read_runs(options.folder), options.arm)
        if not recorded:
            raise ConfigError(f"{options.folder} has no decisions by Q of the arm {options.arm!r}.")
        similarities = measured_similarities(recorded, options.embedding_model, rule.m)
    except (LaunchError, RuntimeError, ModuleNotFoundError) as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2
    console = Console(width=140)
    by = f"similarities by {options.embedding_model}"
    console.print(f"{len(recorded)} decisions of {options.arm}, {by}", highlight=False)
    console.print(table_of(decisions_by_form(recorded, similarities, rule)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
