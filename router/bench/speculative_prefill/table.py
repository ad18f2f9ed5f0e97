"""The results as text, each beside its baseline of the same run."""

import statistics
from typing import Any

from router.bench.sample import percentile
from router.bench.speculative_prefill.load import Mode, Sizes


def table(seconds: dict[str, Any], sizes: Sizes, modes: list[Mode]) -> str:
    """One row for each measurement; `seconds` is what `measure` returns."""
    lines = [f"{'time to first token, ms':56} {'median':>8}  ratios within this run"]

    def row(label: str, name: str, *baselines: tuple[str, str]) -> None:
        value = statistics.median(seconds[name])
        others = [(statistics.median(seconds[other]), called) for other, called in baselines]
        ratios = "; ".join(f"{value / other:.3f}x of {1e3 * other:.1f} {called}" for other, called in others)
        lines.append(f"{label:56} {1e3 * value:8.1f}  {ratios}")

    cold, short = ("cold", "cold"), ("short", f"for {sizes.short} tokens")
    if seconds["cold"]:
        row(f"{sizes.short} tokens cold", "short")
        row(f"{sizes.prompt} tokens cold", "cold", short)
        for mode in modes:
            row(f"{sizes.prompt} tokens, the last some {sizes.answer} an answer: {mode}", mode, cold, short)
            lines.append(_speculation_line(seconds, mode))
    if seconds["cold_crowd"]:
        row(f"{sizes.crowd} at once, cold", "cold_crowd")
        for mode in modes:
            row(f"{sizes.crowd} at once, {mode}", f"{mode}_crowd", ("cold_crowd", "cold at once"))
            lines.append(_speculation_line(seconds, mode, "_crowd"))
    if seconds["ordinary"]:
        row(f"ordinary, {sizes.ordinary} tokens, {sizes.per_second:g}/s, beside an upstream", "ordinary")
        lines.append(_percentile_line(seconds["ordinary"]))
        without = ("ordinary", "without")
        for mode in modes:
            name = f"{mode}_ordinary"
            if name not in seconds:
                continue
            row(f"the same with a dependent, {mode}", name, without)
            lines.append(_percentile_line(seconds[name], seconds["ordinary"]))
    return "\n".join(lines)


def _speculation_line(seconds: dict[str, Any], mode: Mode, crowd: str = "") -> str:
    tail = statistics.median(stats["tail"] for stats in seconds[f"{mode}{crowd}_speculation"])
    upstream, alone = (statistics.median(seconds[f"{each}{crowd}_upstream"]) for each in (mode, "blocking"))
    return (
        f"  tokens left after the upstream's last one: {tail:g}; it took {1e3 * upstream:.2f} ms a token, "
        f"{upstream / alone:.3f}x of blocking"
    )


def _percentile_line(values: list[float], baseline: list[float] | None = None) -> str:
    parts, ordered, others = [], sorted(values), sorted(baseline or ())
    for share in (0.9, 0.95, 0.99):
        value = percentile(ordered, share)
        ratio = f" ({value / percentile(others, share):.3f}x)" if others else ""
        parts.append(f"p{100 * share:g} {1e3 * value:.1f}{ratio}")
    return f"  {', '.join(parts)} of {len(values)} requests; mean {1e3 * statistics.mean(values):.1f}"
