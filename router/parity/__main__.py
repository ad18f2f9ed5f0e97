"""`python -m router.parity [--rust PYTHON] [--write]`: the table of flags, paths and metrics in SGLANG_ROUTER.md.

With `--rust`, `sglang_router.json` gets the flags of the sglang-router in that Python's environment.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from router.parity.sglang_router import SglangRouter, load_sglang_router
from router.parity.table import table

DOCUMENT = Path(__file__).with_name("SGLANG_ROUTER.md")
BEGIN, END = "<!-- parity: begin -->\n", "<!-- parity: end -->\n"

# Runs in the environment of sglang-router, where this package is not installed.
READ_FLAGS = """
import argparse, importlib.metadata, json
from sglang_router.router_args import RouterArgs
parser = argparse.ArgumentParser()
RouterArgs.add_cli_args(parser)
flags = {
    action.option_strings[0]: {"default": action.default, "choices": action.choices and list(action.choices)}
    for action in parser._actions if action.dest != "help"
}
print(json.dumps({"version": importlib.metadata.version("sglang-router"), "flags": flags}))
"""


def main(arguments: list[str]) -> int:
    """Print the table, or write it into the document."""
    parser = argparse.ArgumentParser(prog="python -m router.parity", description=__doc__)
    parser.add_argument("--rust", metavar="PYTHON", help="a Python with sglang-router, to read its flags anew")
    parser.add_argument("--write", action="store_true", help="put the table into SGLANG_ROUTER.md")
    options = parser.parse_args(arguments)
    if options.rust:
        done = subprocess.run([options.rust, "-c", READ_FLAGS], capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            print(f"router.parity: {options.rust} has no sglang-router: {done.stderr.strip()[-200:]}", file=sys.stderr)
            return 2
        installed, stored = json.loads(done.stdout), load_sglang_router()
        SglangRouter(installed["version"], installed["flags"], stored.paths, stored.metrics).save()
    markdown = table(load_sglang_router())
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(before + BEGIN + markdown + END + rest.partition(END)[2])
    else:
        print(markdown, end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
