"""The paper's figure 4(iii): several experiments that differ in the length of outputs, as one curve for each arm."""

import re
from collections.abc import Sequence
from typing import Any

from launch.errors import ConfigError

_LENGTHS = re.compile(r"second-layer:(\d+)")


def curve_of(summaries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By arm its latencies over lengths, and the length at which the arm `ours` is furthest below the best other arm.

    Raises:
        ConfigError: They are not one experiment with several lengths.
    """
    points: dict[int, dict[str, Any]] = {}
    for summary in summaries:
        length = _LENGTHS.fullmatch(str(summary["lengths"]))
        if length is None or len(summary["cells"]) != 1:
            raise ConfigError("a curve needs experiments with one cell each, run with --lengths second-layer:N.")
        tokens = round(int(length[1]) * summary["scale"])
        if tokens in points:
            raise ConfigError(f"a curve needs experiments with different lengths; two have {tokens} tokens.")
        points[tokens] = summary["cells"][0]
    kinds = {(cell["benchmark"], cell["concurrency"], cell["gpus"], tuple(cell["arms"])) for cell in points.values()}
    if len(kinds) > 1:
        raise ConfigError(
            "a curve needs experiments that differ in nothing but lengths: same benchmark, arms and GPUs."
        )
    lengths = sorted(points)
    first = points[lengths[0]]
    arms = {name: [points[tokens]["arms"][name]["latency_s"] for tokens in lengths] for name in first["arms"]}
    told = {key: first[key] for key in ("benchmark", "concurrency", "gpus")}
    return {**told, "output_tokens": lengths, "arms": arms, "best": _best(lengths, arms)}


def _best(lengths: Sequence[int], arms: dict[str, list[dict[str, Any]]]) -> dict[str, Any] | None:
    """Where `ours` takes the smallest share of the best other arm's mean latency, and how much less that is."""
    others = [name for name in arms if name != "ours"]
    if "ours" not in arms or not others:
        return None
    best: dict[str, Any] = {}
    for place, tokens in enumerate(lengths):
        means = {name: float(arms[name][place]["mean"]) for name in arms}
        rival = min(others, key=means.__getitem__)
        less = 1 - means["ours"] / means[rival]
        if not best or less > best["less"]:
            best = {"output_tokens": tokens, "against": rival, "less": less}
    return best
