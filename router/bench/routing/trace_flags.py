"""The flags of both commands: which traces, how long and how many, and which policies."""

import argparse

from router.bench.routing.traces import TRACES
from router.load_balancing import POLICIES


def add_trace_flags(parser: argparse.ArgumentParser, requests: int) -> None:
    """Add the flags; `requests` is the usual length of a trace."""
    parser.add_argument("--requests", type=int, default=requests, help="requests a trace (%(default)s)")
    parser.add_argument("--seeds", type=int, default=1, help="traces of each kind; figures are means (%(default)s)")
    parser.add_argument("--traces", nargs="+", choices=list(TRACES), default=list(TRACES), help="traces (all)")
    parser.add_argument("--policies", nargs="+", choices=sorted(POLICIES), default=sorted(POLICIES), help="(all)")


def check_least(parser: argparse.ArgumentParser, options: argparse.Namespace, **least: int) -> None:
    """Exit with a sentence when a number is too small: those of `add_trace_flags`, and the others named here."""
    for flag, smallest in {"requests": 10, "seeds": 1, **least}.items():
        if getattr(options, flag) < smallest:
            parser.error(f"--{flag} {getattr(options, flag)} is too few; give at least {smallest}.")
