"""The runner of the peers' suites, on a suite that is made up here: no network is needed."""

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.peers.__main__ import BAR, parse
from tests.peers.download import NotFetched, Sdist, fetch, sdists, unpack
from tests.peers.results import Result, enough, known_reasons, read_results, table
from tests.peers.running import run_suite
from tests.peers.suites import MOCK, Suite, adapt, copied_suite

TESTS = """
import subprocess, sys

def test_the_launcher_starts_this_router():
    done = subprocess.run(["python3", "-m", "sglang_router.launch_router", "--port", "-1"], stderr=subprocess.PIPE)
    assert b"python -m router: error: --port -1" in done.stderr, done.stderr

def test_that_fails():
    assert "this" == "that"

def test_that_leaves_a_process():
    subprocess.Popen(["sleep", "3600"], start_new_session=True)

def test_unwanted():
    assert False
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A `bin` folder like that of the suites' environment, but with this Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("python", "python3"):
        (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder like a peer's."""
    folder = tmp_path / "clone" / "py_test"
    (folder / "integration_mock").mkdir(parents=True)
    (folder / "integration_mock" / "test_all.py").write_text(TESTS)
    (folder / MOCK).parent.mkdir()
    (folder / MOCK).write_text("def create_app(given): ...\n")
    return folder


def test_a_suite_starts_this_router_and_leaves_nothing(theirs: Path, programs: Path, tmp_path: Path) -> None:
    suite = copied_suite(theirs, tmp_path / "work")
    adapt(suite)
    found = {result.test: result for result in run_suite(suite, programs, tmp_path, "not unwanted")}
    assert {name: result.outcome for name, result in found.items()} == {
        "test_all::test_the_launcher_starts_this_router": "passed",
        "test_all::test_that_fails": "failed",
        "test_all::test_that_leaves_a_process": "passed",
    }, (tmp_path / "output.log").read_text()
    assert "'this' == 'that'" in found["test_all::test_that_fails"].message
    told = subprocess.run(["ps", "axeww"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert f"PEERS_RUN={tmp_path}" not in told


def test_the_mock_is_adapted_in_the_copy_alone(theirs: Path, tmp_path: Path) -> None:
    before = (theirs / MOCK).read_text()
    suite = copied_suite(theirs, tmp_path / "work")
    adapt(suite)
    assert (suite.folder / MOCK).with_name("unchanged_mock_worker.py").read_text() == before
    assert "create_theirs" in (suite.folder / MOCK).read_text()
    assert (theirs / MOCK).read_text() == before


def test_a_folder_without_tests_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFetched, match="neither integration_mock nor"):
        copied_suite(tmp_path / "empty", tmp_path / "work")


def test_only_what_has_the_right_hash_is_unpacked(tmp_path: Path) -> None:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w:gz") as members:
        for name in ("p-1/tests/a.py", "p-1/p/launch_router.py"):
            members.addfile(tarfile.TarInfo(name), io.BytesIO())
    sdist = Sdist("p", "1", hashlib.sha256(held.getvalue()).hexdigest(), "tests")
    (tmp_path / "p-1.tar.gz").write_bytes(held.getvalue())
    folder = unpack(fetch(sdist, tmp_path), sdist, tmp_path / "work")
    assert [path.name for path in (tmp_path / "work").rglob("*.py")] == ["a.py"]
    assert (folder / "a.py").exists()
    (tmp_path / "p-1.tar.gz").write_bytes(b"other")
    with pytest.raises(NotFetched, match=r"p-1\.tar\.gz has the SHA-256 .* it is removed"):
        fetch(sdist, tmp_path)
    assert not (tmp_path / "p-1.tar.gz").exists()


def test_the_table_says_why(tmp_path: Path) -> None:
    results = [
        Result("s", "a", "passed"),
        Result("s", "b", "failed", "assert 1 == 2"),
        Result("s", "c", "failed", "assert 3 == 4"),
        Result("s", "d", "skipped"),
        Result("s", "e", "passed"),
    ]
    assert table(results, {"b": "as it should be.", "e": "old."}) == [
        "s",
        "  passed   a",
        "  failed   b: as it should be.",
        "  failed   c: NO REASON IS KNOWN: assert 3 == 4",
        "  skipped  d",
        "  passed   e: it is listed as failed; remove its reason",
        "2 passed, 2 failed, 1 skipped",
    ]
    assert "  failed   c: their mock: assert 3 == 4" in table(results, {"other": "their mock"})
    assert enough(results, 2)
    assert not enough(results, 3)


def test_errors_of_fixtures_count_as_failed(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="py_test.x.test_a.TestB" name="test_c[http]">'
        '<error message="no server&#10;more"/></testcase></testsuite></testsuites>'
    )
    assert read_results(report, "s") == [Result("s", "test_a::TestB::test_c[http]", "failed", "no server")]


def test_the_files_can_be_read() -> None:
    assert [sdist.version for sdist in sdists()] == ["0.3.0", "0.3.2"]
    assert known_reasons(as_is=False).items() <= known_reasons(as_is=True).items()
    assert parse([]).bar is None
    assert BAR == 30


def test_suites_of_the_workers_api_are_run_without_grpc(tmp_path: Path) -> None:
    (tmp_path / "e2e_test" / "router").mkdir(parents=True)
    (tmp_path / "e2e_test" / "router" / "test_worker_api.py").touch()
    suite = copied_suite(tmp_path / "e2e_test", tmp_path / "work")
    assert isinstance(suite, Suite)
    assert suite.tests == ("router/test_worker_api.py",)
    assert "not grpc" in suite.chosen
