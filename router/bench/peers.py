"""The routers that this one is measured beside, each in the environment of a Python interpreter that is given."""

import argparse
import subprocess
from dataclasses import dataclass

from router.bench.errors import BenchError


@dataclass(frozen=True)
class Peer:
    """Another router: what `python -m` runs, and what is to be installed for it."""

    module: str
    requirement: str


PEERS = {
    "sglang-router": Peer("sglang_router.launch_router", "sglang-router==0.3.2"),
    "smg": Peer("smg.launch_router", "smg"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """A flag for each peer."""
    for peer in PEERS:
        parser.add_argument(f"--{peer}", metavar="PYTHON", help=f"a Python interpreter that has {peer}")


def given(options: argparse.Namespace) -> dict[str, str]:
    """The interpreters that were given, by peer."""
    pythons = {peer: getattr(options, peer.replace("-", "_")) for peer in PEERS}
    return {peer: python for peer, python in pythons.items() if python is not None}


def peer_version(peer: str, python: str) -> str:
    """The version of one of `PEERS` in the environment of `python`.

    Raises:
        BenchError: It has none, or none that runs.
    """
    module, requirement = PEERS[peer].module, PEERS[peer].requirement
    package = requirement.partition("==")[0]
    code = f"from importlib.metadata import version; import {module}; print(version('{package}'))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
    except OSError as error:
        raise BenchError(f"{python} does not run ({error.strerror}); give --{peer} a Python interpreter.") from None
    if done.returncode:
        cause = (done.stderr.strip().splitlines() or ["no cause was given"])[-1]
        raise BenchError(f"{python} has no {package} that runs ({cause}); `pip install {requirement}` there.")
    return done.stdout.strip()
