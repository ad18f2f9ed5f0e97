"""What of the file system the sandbox has: the standard library, shared libraries and numpy, to read only."""

import importlib.util
import os
import sys
import sysconfig
from functools import cache
from pathlib import Path

NUMPY = "/sandbox-packages"  # where numpy is inside
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/lib64")


@cache
def places() -> tuple[tuple[str, str], ...]:
    """Pairs of a folder here and where it is inside; a symbolic link is a pair of its target and its place."""
    base = {"base": sys.base_prefix, "platbase": sys.base_prefix, "installed_base": sys.base_prefix}
    wanted = [sysconfig.get_path(each, vars=base) for each in ("stdlib", "platstdlib")]
    found: list[tuple[str, str]] = []
    for each in (*_LIBRARIES, *wanted):
        inside = any(Path(each).is_relative_to(place) for _, place in found)
        if os.path.isdir(each) and not inside:
            found.append((each, each))
    return (*found, *_numpy())


def links(pairs: tuple[tuple[str, str], ...]) -> list[tuple[str, str]]:
    """Of the pairs those that are symbolic links here, as pairs of what they say and their place."""
    return [(os.readlink(here), inside) for here, inside in pairs if os.path.islink(here)]


def _numpy() -> list[tuple[str, str]]:
    """Tests of HumanEval+ compare with numpy."""
    spec = importlib.util.find_spec("numpy")
    if spec is None or spec.origin is None:
        return []
    folder = Path(spec.origin).parent
    pairs = [(str(folder), f"{NUMPY}/numpy"), (str(folder.parent / "numpy.libs"), f"{NUMPY}/numpy.libs")]
    return [pair for pair in pairs if os.path.isdir(pair[0])]
