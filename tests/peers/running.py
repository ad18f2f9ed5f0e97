"""Runs a suite: pytest in an environment where the peers' commands start this project's router."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.peers.results import Result, read_results
from tests.peers.suites import Suite

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SUITE_SECONDS = 1800.0
TEST_SECONDS = 240


def run_suite(suite: Suite, programs: Path, work: Path, chosen: str = "") -> list[Result]:
    """Run its tests; what came of each.

    Args:
        suite: Which tests.
        programs: The `bin` folder of the suites' environment.
        work: A folder for this run. The tests start in it, so that no folder of theirs is found before a stand-in.
        chosen: Which of its tests, as pytest's `-k`; empty for all.
    """
    report, here = work / "report.xml", work / "cwd"
    here.mkdir()
    command = [str(programs / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    command += [f"--timeout={TEST_SECONDS}", f"--rootdir={suite.folder}", f"--junitxml={report}"]
    wanted = " and ".join(f"({each})" for each in (suite.chosen, chosen) if each)
    command += [*(["-k", wanted] if wanted else []), *(str(suite.folder / each) for each in suite.tests)]
    with (work / "output.log").open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=here,
            env=_environment(suite, programs, work),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            process.wait(SUITE_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            _end_all(work)
            process.wait()
    return read_results(report, suite.name) if report.exists() else []


def _environment(suite: Suite, programs: Path, work: Path) -> dict[str, str]:
    """Theirs is what stands on the path first: `python3`, and the stand-ins for the peers and for SGLang."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    stand_ins = HERE / "stand_ins"
    return {
        **kept,
        **suite.environment,
        "PATH": os.pathsep.join([str(programs), str(stand_ins / "bin"), os.environ.get("PATH", "")]),
        "PYTHONPATH": str(stand_ins),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "*",
        "PEERS_ROUTER_PYTHON": sys.executable,
        "PEERS_ROUTER_PATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")]),
        "PEERS_RUN": str(work),
    }


def _end_all(work: Path) -> None:
    """End what the run has started and left, whatever session it is in: each process has the run in its variables."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("PEERS_RUN") == str(work):
                process.send_signal(signal.SIGKILL)
        except psutil.Error:
            continue
