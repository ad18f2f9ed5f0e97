"""Versions of the software behind a measurement."""

import sys
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("sglang", "torch", "triton", "nixl", "flashinfer-python")


def versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Return the version of Python and of each package that is installed."""
    found = {"python": sys.version.split()[0]}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
