"""The kernels run by Triton's interpreter, without a GPU."""

import os
import subprocess
import sys
from pathlib import Path

from hypothesis import settings

HERE = Path(__file__).parent


def test_kernels_in_the_interpreter() -> None:
    # The interpreter is chosen when Triton is imported, so it needs its own process.
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "OMP_NUM_THREADS": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "EXAMPLES": str(max(8, settings().max_examples // 2)),
    }
    options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    command = [
        sys.executable,
        "-m",
        "pytest",
        *options,
        str(HERE / "interpreted.py"),
        str(HERE / "interpreted_correlation.py"),
    ]
    found = subprocess.run(command, env=environment, cwd=HERE.parents[2], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
