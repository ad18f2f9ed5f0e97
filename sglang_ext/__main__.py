"""`python -m sglang_ext`: print the list of patches and whether each fits the installed SGLang.

`python -m sglang_ext TARGET ...` prints the fingerprints of functions by their dotted names, for new entries.
"""

import argparse
import sys

from sglang_ext.errors import OverlayError
from sglang_ext.patches import PATCHES
from sglang_ext.patching.verify import fingerprint, installed_version, resolve, verify


def main() -> int:
    """Print three lines for each patch, or a fingerprint for each target given; return 1 when any does not fit."""
    parser = argparse.ArgumentParser(prog="python -m sglang_ext", description="The patches, and whether they fit.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="print this function's fingerprint instead")
    given = parser.parse_args()
    version = installed_version()
    if given.targets:
        return print_fingerprints(given.targets, version)
    failures = 0
    for patch in PATCHES:
        found = "-"
        try:
            found = fingerprint(resolve(patch.target))
            verify(patch)
            verdict = "verified"
        except OverlayError as error:
            failures += 1
            verdict = str(error)
        where = "CPU only" if patch.cpu_only else "everywhere"
        print(f"{patch.target}\n  {patch.kind.value}, {where}: {patch.reason}")
        print(f"  sglang {version}, fingerprint {found}: {verdict}")
    return 1 if failures else 0


def print_fingerprints(targets: list[str], version: str) -> int:
    """Print the fingerprint of each target in the installed SGLang; return 1 when one does not exist."""
    for target in targets:
        try:
            print(f'{target}  expects={{"{version}": "{fingerprint(resolve(target))}"}}')
        except OverlayError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
