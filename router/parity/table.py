"""The comparison as Markdown."""

import argparse
from typing import Any

from router.cli.ignored_flags import IGNORED_FLAGS
from router.cli.parser import build_parser
from router.cli.refused_flags import REFUSED_FLAGS
from router.endpoints.not_offered import PATHS_NOT_OFFERED
from router.parity import differs
from router.parity.stored import Stored


def table(stored: Stored) -> str:
    """Three tables: flags, paths, metrics."""
    ours = our_flags()
    flags = [(f"`{name}`", flag_verdict(name, stored.flags[name], ours)) for name in stored.flags]
    paths = [(f"`{name}`", path_verdict(name)) for name in stored.paths]
    metrics = [(f"`{name}`", metric_verdict(name)) for name in stored.metrics]
    more = sorted(name for name in ours if name not in stored.flags)
    return (
        f"Against sglang-router {stored.version}; made by `python -m router.parity --write`.\n\n"
        + _rows("flag", flags)
        + f"\nOnly here: {', '.join(f'`{name}`' for name in more)}.\n\n"
        + _rows("path", paths)
        + "\n"
        + _rows("metric", metrics)
    )


def our_flags() -> dict[str, argparse.Action]:
    """Every flag that the parser takes, the refused ones left out."""
    return {
        name: action
        for action in build_parser()._actions
        for name in action.option_strings
        if name.startswith("--") and name not in REFUSED_FLAGS and name != "--help"
    }


def flag_verdict(name: str, theirs: dict[str, Any], ours: dict[str, argparse.Action]) -> str:
    """Same, differs (why) or refused (why)."""
    if name in REFUSED_FLAGS:
        return f"refused: {REFUSED_FLAGS[name]}"
    if name in IGNORED_FLAGS:
        return f"differs: accepted; {IGNORED_FLAGS[name].reason}"
    return _same_or(differs.FLAGS.get(name), name in ours)


def path_verdict(name: str) -> str:
    """Same, differs (why) or refused (why)."""
    if name in PATHS_NOT_OFFERED:
        return f"refused (501): {PATHS_NOT_OFFERED[name]}"
    return _same_or(differs.PATHS.get(name), known=True)


def metric_verdict(name: str) -> str:
    """Same, differs (why) or absent (why)."""
    if (reason := ABSENT.get(name)) is not None:
        return f"absent: {reason}"
    return _same_or(differs.METRICS.get(name), known=True)


_GRPC = "of gRPC workers only"
ABSENT: dict[str, str] = {
    **dict.fromkeys(
        (
            "smg_db_connections_active",
            "smg_db_items_stored",
            "smg_db_operation_duration_seconds",
            "smg_db_operations_total",
        ),
        "nothing is stored",
    ),
    **dict.fromkeys(
        (
            "smg_mcp_servers_active",
            "smg_mcp_tool_calls_total",
            "smg_mcp_tool_duration_seconds",
            "smg_mcp_tool_iterations_total",
        ),
        "no tools are called",
    ),
    **dict.fromkeys(
        (
            "smg_manual_policy_branch_total",
            "smg_manual_policy_cache_entries",
            "smg_prefix_hash_policy_branch_total",
            "smg_consistent_hashing_policy_branch_total",
            "smg_worker_routing_keys_active",
        ),
        "no such policy",
    ),
    **dict.fromkeys(
        (
            "smg_router_generation_duration_seconds",
            "smg_router_stage_duration_seconds",
            "smg_router_tokens_total",
            "smg_router_tpot_seconds",
        ),
        _GRPC,
    ),
    "smg_router_request_errors_total": "see `smg_http_responses_total`, which has the kind of error",
    "smg_router_upstream_responses_total": "see `smg_worker_errors_total` and `smg_worker_cb_outcomes_total`",
    "smg_worker_connections_active": "see `smg_worker_requests_active`",
}


def _same_or(difference: str | None, known: bool) -> str:
    assert known, "neither a flag of ours nor refused"
    return "same" if difference is None else f"differs: {difference}"


def _rows(what: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {what} of sglang-router | here |", "|---|---|", *(f"| {name} | {verdict} |" for name, verdict in rows)]
    return "\n".join(lines) + "\n"
