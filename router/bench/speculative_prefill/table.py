"""The figures as text, each beside its baseline of the same run."""

import statistics
from typing import Any

from router.bench.sample import percentile
from router.bench.speculative_prefill.load import Sizes, Way


def table(found: dict[str, Any], sizes: Sizes, ways: list[Way]) -> str:
    """The rows as text, each beside its baseline of the same run; what was not measured has none."""
    lines = [f"{'time to first token, ms':56} {'median':>8}  ratios within this run"]

    def row(words: str, name: str, *baselines: tuple[str, str]) -> None:
        value = statistics.median(found[name])
        others = [(statistics.median(found[other]), called) for other, called in baselines]
        ratios = "; ".join(f"{value / other:.3f}x of {1e3 * other:.1f} {called}" for other, called in others)
        lines.append(f"{words:56} {1e3 * value:8.1f}  {ratios}")

    cold, short = ("cold", "cold"), ("short", f"for {sizes.short} tokens")
    if found["cold"]:
        row(f"{sizes.short} tokens cold", "short")
        row(f"{sizes.prompt} tokens cold", "cold", short)
        for way in ways:
            row(f"{sizes.prompt} tokens, the last some {sizes.answer} an answer: {way}", way, cold, short)
            lines.append(_left(found, way))
    if found["cold_crowd"]:
        row(f"{sizes.crowd} at once, cold", "cold_crowd")
        for way in ways:
            row(f"{sizes.crowd} at once, {way}", f"{way}_crowd", ("cold_crowd", "cold at once"))
            lines.append(_left(found, way, "_crowd"))
    if found["ordinary"]:
        row(f"ordinary, {sizes.ordinary} tokens, {sizes.per_second:g}/s, beside an upstream", "ordinary")
        lines.append(_tails(found["ordinary"]))
        without = ("ordinary", "without")
        for way in ways:
            name = f"{way}_ordinary"
            if name not in found:
                continue
            row(f"the same with a dependent, {way}", name, without)
            lines.append(_tails(found[name], found["ordinary"]))
    return "\n".join(lines)


def _left(found: dict[str, Any], way: Way, crowd: str = "") -> str:
    tail = statistics.median(told["tail"] for told in found[f"{way}{crowd}_speculation"])
    upstream, alone = (statistics.median(found[f"{each}{crowd}_upstream"]) for each in (way, "blocking"))
    return (
        f"  tokens left after the upstream's last one: {tail:g}; it took {1e3 * upstream:.2f} ms a token, "
        f"{upstream / alone:.3f}x of blocking"
    )


def _tails(values: list[float], baseline: list[float] | None = None) -> str:
    told, ordered, others = [], sorted(values), sorted(baseline or ())
    for share in (0.9, 0.95, 0.99):
        value = percentile(ordered, share)
        ratio = f" ({value / percentile(others, share):.3f}x)" if others else ""
        told.append(f"p{100 * share:g} {1e3 * value:.1f}{ratio}")
    return f"  {', '.join(told)} of {len(values)} requests; mean {1e3 * statistics.mean(values):.1f}"
