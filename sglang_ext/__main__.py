"""`python -m sglang_ext`: print the list of patches and whether each fits the installed SGLang."""

from sglang_ext.errors import OverlayError
from sglang_ext.patches import PATCHES
from sglang_ext.patching.verify import fingerprint, installed_version, resolve, verify


def main() -> int:
    """Print three lines for each patch; return 1 when any does not fit."""
    failures = 0
    version = installed_version()
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


if __name__ == "__main__":
    raise SystemExit(main())
