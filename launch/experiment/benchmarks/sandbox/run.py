"""Starts the sandbox, waits for its verdict and ends it: what is outside of `jail`."""

import base64
import contextlib
import json
import logging
import os
import secrets
import signal
import subprocess
import sys
from enum import StrEnum
from functools import cache
from pathlib import Path

from launch.experiment.benchmarks.errors import SandboxError
from launch.experiment.benchmarks.sandbox.outcome import Limits, Outcome
from launch.experiment.benchmarks.sandbox.places import NUMPY, links, places
from launch.experiment.benchmarks.sandbox.seccomp import filter_program

log = logging.getLogger(__name__)

# Set to 1, code runs even where the kernel allows no namespaces, under limits alone: it can then read files.
ALLOW_LIMITS_ONLY = "FASTER_MOA_SANDBOX_LIMITS_ONLY"
_JAIL = str(Path(__file__).with_name("jail.py"))
_MAX_VERDICT = 4096  # bytes


class Isolation(StrEnum):
    """How strong the sandbox is."""

    NAMESPACES = "namespaces"  # own users, mounts, processes, network; filter of system calls; limits
    LIMITS = "limits"  # limits and, where the machine's calls are known, the filter: the user's files can be read


@cache
def isolation() -> Isolation:
    """The strongest that the kernel allows, found out once by trying."""
    reason = "the system calls of this machine are not known"
    if filter_program():
        try:
            found = _run(["pass"], Limits(), Isolation.NAMESPACES)
        except SandboxError as error:
            reason = str(error)
        else:
            if found.passed:
                return Isolation.NAMESPACES
            reason = found.reason
    log.warning("The sandbox has no namespaces (%s).", reason.rstrip("."))
    return Isolation.LIMITS


def require() -> Isolation:
    """The isolation in which code will run.

    Raises:
        SandboxError: It would be limits alone, and nobody allowed that.
    """
    found = isolation()
    if found is Isolation.LIMITS and os.environ.get(ALLOW_LIMITS_ONLY) != "1":
        raise SandboxError(
            "The kernel allows no user namespaces here, so a model's code could read your files: allow them"
            f" (in a container: another seccomp profile), or set {ALLOW_LIMITS_ONLY}=1 to run it under limits alone."
        )
    return found


def run_code(sources: list[str], limits: Limits | None = None) -> Outcome:
    """Run Python sources one after the other in one namespace, each compiled by itself.

    Raises:
        SandboxError: See `require`; or the sandbox could not be made this time, which says nothing of the code.
    """
    return _run(sources, limits or Limits(), require())


def _run(sources: list[str], limits: Limits, strength: Isolation) -> Outcome:
    token = secrets.token_hex(16)
    verdict = os.memfd_create("verdict", 0)
    request = os.memfd_create("request", 0)
    try:
        message = _request(sources, limits, strength, token, verdict)
        with os.fdopen(os.dup(request), "wb") as file:
            file.write(json.dumps(message).encode("utf-8", "backslashreplace"))
        os.lseek(request, 0, os.SEEK_SET)
        command = [sys.executable, "-I", "-S", "-B", _JAIL]
        process = subprocess.Popen(
            command, stdin=request, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={}, cwd="/",
            pass_fds=(verdict,), start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(limits.wall_s)
        except subprocess.TimeoutExpired:
            return Outcome(passed=False, reason=f"was not done after {limits.wall_s:g} s")
        finally:
            _end(process)
        return _outcome(os.pread(verdict, _MAX_VERDICT, 0), token, code, limits)
    finally:
        os.close(verdict)
        os.close(request)


def _request(sources: list[str], limits: Limits, strength: Isolation, token: str, verdict: int) -> dict[str, object]:
    pairs = places()
    inside = strength is Isolation.NAMESPACES
    packages = [NUMPY] if inside else [str(Path(here).parent) for here, place in pairs if place == f"{NUMPY}/numpy"]
    return {
        **vars(limits),
        "sources": sources,
        "namespaces": inside,
        "places": pairs,
        "links": links(pairs),
        "packages": packages,
        "filter": base64.b64encode(filter_program()).decode(),
        "token": token,
        "verdict": verdict,
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """The whole session; with namespaces the kernel ends what left it, when process 1 ends."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _outcome(content: bytes, token: str, code: int, limits: Limits) -> Outcome:
    try:
        said = json.loads(content)
    except ValueError:
        said = {}
    if isinstance(said, dict) and said.get("token") == token:
        if "cannot" in said:
            raise SandboxError(f"The sandbox could not be made: {said['cannot']}.")
        return Outcome(passed=said["passed"] is True, reason=str(said["reason"]))
    number = code - 128 if code > 128 else -code
    if number in (signal.SIGXCPU, signal.SIGKILL):
        return Outcome(passed=False, reason=f"used more than {limits.cpu_s} s of CPU time")
    if number > 0:
        return Outcome(passed=False, reason=f"ended by signal {number}")
    return Outcome(passed=False, reason=f"left with exit code {code}")
