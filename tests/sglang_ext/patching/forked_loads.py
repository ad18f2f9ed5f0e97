"""Imports SGLang once, and in a forked process for each case on the command line changes it and loads the plugins."""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from sglang import version
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.plugins import load_plugins

from sglang_ext.patches import PATCHES
from sglang_ext.patching.verify import resolve


def on_idle(self: Any) -> None:
    """Not what SGLang has."""


def lose_a_function() -> None:
    del Scheduler.on_idle


def change_a_function() -> None:
    Scheduler.on_idle = on_idle


def be_of_version(number: str) -> Callable[[], None]:
    return lambda: setattr(version, "__version__", number)


CASES = {
    "missing function": lose_a_function,
    "changed function": change_a_function,
    "old version": be_of_version("0.5.16"),
    "new version": be_of_version("0.5.99"),
}


def load(case: str, allowed: bool) -> dict[str, Any]:
    """The exit code and the output of a process that loads the plugins."""
    with tempfile.TemporaryFile("w+") as output:
        pid = os.fork()
        if pid == 0:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            if allowed:
                os.environ["SGLANG_EXT_ALLOW_UNVERIFIED"] = "1"
            CASES[case]()
            try:
                load_plugins()
            except SystemExit as end:
                sys.stderr.flush()
                os._exit(
                    int(str(end.code))
                )  # at once: the end of an interpreter that has imported SGLang takes a second
            from sglang_ext.patching.apply import unverified_patches

            print("went on without checking", unverified_patches(), flush=True)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        output.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "output": output.read()}


if __name__ == "__main__":
    for patch in PATCHES:
        resolve(patch.target)  # imports what the forked processes would import, each by itself
    told = {name: load(name.removesuffix(", allowed"), name.endswith(", allowed")) for name in sys.argv[1:]}
    print(json.dumps(told))
