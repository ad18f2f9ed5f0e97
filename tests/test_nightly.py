"""The runner of the nightly jobs: one line a job, a log of each that failed, an end that a script can read."""

import sys
from pathlib import Path

import pytest

from tests import nightly
from tests.nightly import JOBS, Job, run


def job(name: str, code: str, minutes: float = 10) -> Job:
    return Job(name, (sys.executable, "-c", code), minutes)


def test_jobs_that_pass_fail_and_hang(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nightly, "STOP_SECONDS", 0.1)
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(3600)"
    jobs = [
        job("good", "print('fine')"),
        job("bad", "print('what went wrong'); raise SystemExit(3)"),
        job("slow", deaf, minutes=0.01),
    ]
    assert run(jobs, tmp_path / "logs") == 1
    good, bad, slow, end = capsys.readouterr().out.splitlines()
    assert good.startswith("passed  good (")
    assert bad.startswith("FAILED  bad (")
    assert bad.endswith(f"exit code 3; see {tmp_path / 'logs' / '2.log'}")
    assert "it was not over after 0.01 min" in slow
    assert end == "1 passed, 2 failed"
    assert [path.name for path in sorted((tmp_path / "logs").iterdir())] == ["2.log", "3.log"]
    assert (tmp_path / "logs" / "2.log").read_text() == "what went wrong\n"


def test_all_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([job("good", "")], tmp_path) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


def test_every_job_has_a_name_of_its_own_and_a_bound() -> None:
    assert len({job.name for job in JOBS}) == len(JOBS)
    assert all(0 < job.minutes <= 180 for job in JOBS)
