"""The comparison as Markdown tables."""

import argparse
from collections.abc import Callable, Mapping

from router.cli.ignored_flags import IGNORED_FLAGS
from router.cli.parser import build_parser
from router.cli.refused_flags import REFUSED_FLAGS
from router.endpoints.not_offered import PATHS_NOT_OFFERED
from router.parity.absent_metrics import ABSENT_METRICS
from router.parity.differences import FLAGS, METRICS, PATHS
from router.parity.peers import Peer, PeerName


def comparison(peers: Mapping[PeerName, Peer]) -> str:
    """Three tables: flags, paths, metrics."""
    ours = our_flags()
    flags = {name: peer.flags for name, peer in peers.items()}
    versions = " and ".join(f"{name} {peer.version}" for name, peer in peers.items())
    only_here = ", ".join(f"`{name}`" for name in flags_only_here(peers))
    return (
        f"Against {versions}; made by `python -m router.parity --write`.\n\n"
        + _rows("flag", flags, lambda name: flag_verdict(name, ours))
        + f"\nOnly here: {only_here}.\n\n"
        + _rows("path", {name: peer.paths for name, peer in peers.items()}, path_verdict)
        + "\n"
        + _rows("metric", {name: peer.metrics for name, peer in peers.items()}, metric_verdict)
    )


def flags_only_here(peers: Mapping[PeerName, Peer]) -> list[str]:
    """The flags that none of the peers has."""
    return sorted(name for name in our_flags() if not any(name in peer.flags for peer in peers.values()))


def our_flags() -> dict[str, argparse.Action]:
    """The flags of this router's parser, without those that are refused."""
    return {
        name: action
        for action in build_parser()._actions
        for name in action.option_strings
        if name.startswith("--") and name not in REFUSED_FLAGS and name != "--help"
    }


def flag_verdict(name: str, ours: dict[str, argparse.Action]) -> str:
    """Same, differs (how), no effect (why) or refused (why)."""
    if name in REFUSED_FLAGS:
        return f"refused: {REFUSED_FLAGS[name]}"
    if name in IGNORED_FLAGS:
        return f"no effect: {IGNORED_FLAGS[name].reason}"
    return _same_or(FLAGS.get(name), name in ours)


def path_verdict(name: str) -> str:
    """Same, differs (how) or refused (why)."""
    if name in PATHS_NOT_OFFERED:
        return f"refused (501): {PATHS_NOT_OFFERED[name]}"
    return _same_or(PATHS.get(name), known=True)


def metric_verdict(name: str) -> str:
    """Same, differs (how) or absent (why)."""
    if (reason := ABSENT_METRICS.get(name)) is not None:
        return f"absent: {reason}"
    return _same_or(METRICS.get(name), known=True)


def _same_or(difference: str | None, known: bool) -> str:
    assert known, "neither a flag of ours nor refused"
    return "same" if difference is None else f"differs: {difference}"


def _rows(
    what: str, of_peers: Mapping[PeerName, Mapping[str, object] | list[str]], verdict: Callable[[str], str]
) -> str:
    """A row for each name, in the peers' order, with who has it."""
    names = dict.fromkeys(name for theirs in of_peers.values() for name in theirs)
    lines = [f"| {what} | of | here |", "|---|---|---|"]
    for name in names:
        who = " and ".join(peer for peer, theirs in of_peers.items() if name in theirs)
        lines.append(f"| `{name}` | {who} | {verdict(name)} |")
    return "\n".join(lines) + "\n"
