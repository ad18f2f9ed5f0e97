"""What the commands that measure a running pair have in common: their options, and the head of their records."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from sglang_ext.versions import versions


def command_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options of every command that measures a running pair."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--router", metavar="URL", required=True, help="whose workers are measured")
    parser.add_argument("--model", help="one of several that the router serves")
    parser.add_argument("--machine", default="not told", help="what it runs on, for the record")
    parser.add_argument("--out", type=Path, help="JSON file for all figures")
    return parser


def record_head(options: argparse.Namespace, command: str) -> dict[str, Any]:
    """The machine, the versions and the command line; `command` is the module below `router.bench`."""
    return {
        "machine": options.machine,
        "versions": versions(),
        "command": f"python -m router.bench.{command} {shlex.join(sys.argv[1:])}",
    }
