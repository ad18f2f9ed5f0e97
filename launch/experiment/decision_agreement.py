"""Would other forms of Q have decided otherwise? Over the decisions of an experiment whose log has the agents' texts.

    python -m launch.experiment.decision_agreement DIR --embedding-model builtin:minilm

Four forms: embeddings of whole answers (pooled) or the correlation of their tokens' hidden states, each with P over
pairs i < j, or over all (i, j) as in the paper's algorithm 1. With the diagonal P is

    P' = (2 sum over i < j of c_i c_j S_ij + sum of c_i^2) / (2 sum over i < j of c_i c_j + sum of c_i^2)

since S_ii = 1. Each form is compared with the same u that was drawn for the decision, or with the least Q of the rule.
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
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import read_identity, read_runs
from router.early_exit.judge_protocol import BUILTIN_MODEL

GAMMA, TAU, LEAST_Q = 0.5, 0.7, 0.5  # of `router.early_exit.ExitRule`, where the arm's own rule does not say them
FORMS = ("pooled", "pooled, i = j", "correlation", "correlation, i = j")


@dataclass(frozen=True)
class Recorded:
    """A decision as the log has it: the answers' texts and confidences, and what Q was compared with."""

    texts: tuple[str, ...]
    confidences: tuple[float, ...]
    limit: float


@dataclass(frozen=True)
class FormulaParameters:
    """`gamma` and `tau` of Q, and the least Q of the rule `q_threshold`."""

    gamma: float = GAMMA
    tau: float = TAU
    q_min: float = LEAST_Q


def recorded_decisions(lines: Iterable[RunLine], arm: str, parameters: FormulaParameters) -> list[Recorded]:
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
            u = decision.get("u")
            found.append(Recorded(tuple(answers), tuple(confidences), parameters.q_min if u is None else u))
    return found


def q_of(
    confidences: Sequence[float], s: Sequence[Sequence[float]], parameters: FormulaParameters, *, diagonal: bool
) -> float:
    """Q of a cluster by its N confidences and N x N similarities; NaN where a confidence is."""
    n = len(confidences)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    weights = {(i, j): 2 * confidences[i] * confidences[j] for i, j in pairs}
    total = sum(weights.values())
    agreeing = sum(weight * s[i][j] for (i, j), weight in weights.items())
    if diagonal:
        squares = sum(c * c for c in confidences)
        total, agreeing = total + squares, agreeing + squares
    p = agreeing / total
    c = math.sqrt(sum(each * each for each in confidences) / n)
    b = max(0.0, 1 - abs(p - parameters.tau) / max(parameters.tau, 1 - parameters.tau))
    return float(c**parameters.gamma * b ** (1 - parameters.gamma))


def decisions_by_form(
    recorded: Sequence[Recorded], similarities: Mapping[str, Sequence[Any]], parameters: FormulaParameters
) -> dict[str, list[bool]]:
    """What each form would have decided; `similarities` has the N x N matrices by `pooled` and `correlation`."""
    return {
        form: [
            each.limit < q_of(each.confidences, s, parameters, diagonal=form.endswith("i = j"))
            for each, s in zip(recorded, similarities[form.split(",")[0]], strict=True)
        ]
        for form in FORMS
    }


def measured_similarities(recorded: Sequence[Recorded], model: str) -> dict[str, list[list[list[float]]]]:
    """The similarities of each decision's answers, by a sentence-embedding model on this machine."""
    from qmetric import correlation_cosine, frobenius_cosine

    from router.early_exit.embedding_model import load_embedder

    embedder = load_embedder(model, "auto")
    assert embedder.tokens is not None
    found: dict[str, list[list[list[float]]]] = {"pooled": [], "correlation": []}
    for each in recorded:
        vectors = embedder.embed([(text, 1) for text in each.texts])
        stacked = vectors[0].new_empty((1, len(vectors), *vectors[0].shape))
        for row, vector in zip(stacked[0], vectors, strict=True):
            row.copy_(vector)
        found["pooled"].append(frobenius_cosine(stacked)[0].tolist())
        found["correlation"].append(correlation_cosine(embedder.tokens.of(each.texts)).tolist())
    return found


def table_of(decided: Mapping[str, Sequence[bool]]) -> Table:
    """A row for each form: how often it exits, and on how many decisions it agrees with each other one."""
    table = Table("form", "exits", *(f"agrees with {form}" for form in FORMS), box=None)
    for form in FORMS:
        own = decided[form]
        shares = [sum(a == b for a, b in zip(own, decided[other], strict=True)) / len(own) for other in FORMS]
        table.add_row(form, f"{sum(own) / len(own):.1%}", *(f"{share:.1%}" for share in shares))
    return table


def parameters_of(identity: Mapping[str, Any], arm: str) -> FormulaParameters:
    """Those of an arm's rule; raises `ConfigError` when there is no such arm."""
    arms = identity["config"]["arms"]
    if arm not in arms:
        raise ConfigError(f"the experiment has no arm {arm!r}; it has {', '.join(arms)}.")
    rule = arms[arm].get("exit") or {}
    return FormulaParameters(rule.get("gamma", GAMMA), rule.get("tau", TAU), rule.get("q_min", LEAST_Q))


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
        parameters = parameters_of(read_identity(options.folder), options.arm)
        recorded = recorded_decisions(read_runs(options.folder), options.arm, parameters)
        if not recorded:
            raise ConfigError(f"{options.folder} has no decisions by Q of the arm {options.arm!r}.")
        similarities = measured_similarities(recorded, options.embedding_model)
    except (LaunchError, RuntimeError, ModuleNotFoundError) as error:
        print(f"launch: {error}", file=sys.stderr)
        return 2
    console = Console(width=140)
    by = f"similarities by {options.embedding_model}"
    console.print(f"{len(recorded)} decisions of {options.arm}, {by}", highlight=False)
    console.print(table_of(decisions_by_form(recorded, similarities, parameters)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
