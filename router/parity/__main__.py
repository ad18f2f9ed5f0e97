"""`python -m router.parity [--read PYTHON] [--write]`: the table of flags, paths and metrics in SGLANG_ROUTER.md.

With `--read`, `sglang_router.json` and `smg.json` get the flags of the peers in that Python's environment.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from router.parity.markdown import comparison
from router.parity.peers import PACKAGES, PEERS, Peer, load_peer

DOCUMENT = Path(__file__).with_name("SGLANG_ROUTER.md")
BEGIN, END = "<!-- parity: begin -->\n", "<!-- parity: end -->\n"

# Runs in the environment of a peer, where this package is not installed.
READ_FLAGS = """
import argparse, importlib, importlib.metadata, json, sys
package, distribution = sys.argv[1:]
parser = argparse.ArgumentParser()
importlib.import_module(package + ".router_args").RouterArgs.add_cli_args(parser)
flags = {
    name: {"default": action.default, "choices": action.choices and list(action.choices)}
    for action in parser._actions if action.dest != "help" for name in action.option_strings
}
print(json.dumps({"version": importlib.metadata.version(distribution), "flags": flags}))
"""


def main(arguments: list[str]) -> int:
    """Print the table, or write it into the document."""
    parser = argparse.ArgumentParser(prog="python -m router.parity", description=__doc__)
    parser.add_argument("--read", metavar="PYTHON", help="a Python with sglang-router or smg, to read their flags anew")
    parser.add_argument("--write", action="store_true", help="put the table into SGLANG_ROUTER.md")
    options = parser.parse_args(arguments)
    if options.read and not _read_flags(options.read):
        return 2
    markdown = comparison({name: load_peer(name) for name in PEERS})
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(before + BEGIN + markdown + END + rest.partition(END)[2])
    else:
        print(markdown, end="")
    return 0


def _read_flags(python: str) -> bool:
    """Store the flags of the peers in an environment; False, with a sentence, where there is none."""
    found, problem = False, ""
    for name in PEERS:
        command = [python, "-c", READ_FLAGS, PACKAGES[name], name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            problem = done.stderr.strip()[-200:]
            continue
        installed, stored = json.loads(done.stdout), load_peer(name)
        Peer(installed["version"], installed["flags"], stored.paths, stored.metrics).save(name)
        found = True
    if not found:
        print(f"router.parity: {python} has neither sglang-router nor smg: {problem}", file=sys.stderr)
    return found


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
