"""The comparison as Markdown tables."""

import argparse

from router.cli.ignored_flags import IGNORED_FLAGS
from router.cli.parser import build_parser
from router.cli.refused_flags import REFUSED_FLAGS
from router.endpoints.not_offered import PATHS_NOT_OFFERED
from router.parity.differences import ABSENT_METRICS, FLAGS, METRICS, PATHS
from router.parity.sglang_router import SglangRouter


def table(theirs: SglangRouter) -> str:
    """Three tables: flags, paths, metrics."""
    ours = our_flags()
    flags = [(f"`{name}`", flag_verdict(name, ours)) for name in theirs.flags]
    paths = [(f"`{name}`", path_verdict(name)) for name in theirs.paths]
    metrics = [(f"`{name}`", metric_verdict(name)) for name in theirs.metrics]
    only_here = sorted(name for name in ours if name not in theirs.flags)
    return (
        f"Against sglang-router {theirs.version}; made by `python -m router.parity --write`.\n\n"
        + _rows("flag", flags)
        + f"\nOnly here: {', '.join(f'`{name}`' for name in only_here)}.\n\n"
        + _rows("path", paths)
        + "\n"
        + _rows("metric", metrics)
    )


def our_flags() -> dict[str, argparse.Action]:
    """The flags of this router's parser, without those that are refused."""
    return {
        name: action
        for action in build_parser()._actions
        for name in action.option_strings
        if name.startswith("--") and name not in REFUSED_FLAGS and name != "--help"
    }


def flag_verdict(name: str, ours: dict[str, argparse.Action]) -> str:
    """Same, differs (why) or refused (why)."""
    if name in REFUSED_FLAGS:
        return f"refused: {REFUSED_FLAGS[name]}"
    if name in IGNORED_FLAGS:
        return f"differs: accepted; {IGNORED_FLAGS[name].reason}"
    return _same_or(FLAGS.get(name), name in ours)


def path_verdict(name: str) -> str:
    """Same, differs (why) or refused (why)."""
    if name in PATHS_NOT_OFFERED:
        return f"refused (501): {PATHS_NOT_OFFERED[name]}"
    return _same_or(PATHS.get(name), known=True)


def metric_verdict(name: str) -> str:
    """Same, differs (why) or absent (why)."""
    if (reason := ABSENT_METRICS.get(name)) is not None:
        return f"absent: {reason}"
    return _same_or(METRICS.get(name), known=True)


def _same_or(difference: str | None, known: bool) -> str:
    assert known, "neither a flag of ours nor refused"
    return "same" if difference is None else f"differs: {difference}"


def _rows(what: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {what} of sglang-router | here |", "|---|---|", *(f"| {name} | {verdict} |" for name, verdict in rows)]
    return "\n".join(lines) + "\n"
