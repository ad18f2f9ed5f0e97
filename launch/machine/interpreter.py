"""Other Python environments on this machine: whether they have what is to run there."""

import os
import subprocess
import sys
from collections.abc import Mapping

from launch.errors import PlanError

IMPORT_SECONDS = 300.0
"""For an import with all that it imports in turn, on a machine that has never read it."""


def check_importable(python: str | None, module: str, advice: str, env: Mapping[str, str] | None = None) -> None:
    """Raise `PlanError` unless an interpreter can import a module.

    Args:
        python: The interpreter; None is this process's own.
        module: What to import.
        advice: What to do where it is missing: the end of the sentence.
        env: Environment variables on top of this process's own.
    """
    python = python or sys.executable
    try:
        done = subprocess.run(
            [python, "-c", f"import {module}"],
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=IMPORT_SECONDS,
            check=False,
        )
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except subprocess.TimeoutExpired:
        problem = f"it took more than {IMPORT_SECONDS:g} s"
    else:
        if done.returncode == 0:
            return
        problem = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    raise PlanError(f"{python} cannot import {module} ({problem.rstrip('.')}); {advice}.")
