"""Whether another environment has what is to run there."""

import sys
from pathlib import Path

import pytest

from launch.errors import PlanError
from launch.machine import interpreter
from launch.machine.interpreter import check_importable


def python(folder: Path, script: str) -> str:
    """A program that stands for an interpreter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_what_is_there_is_imported() -> None:
    check_importable(None, "launch.errors", "add it")
    check_importable(sys.executable, "json", "add it")


def test_what_is_found_by_the_environment_of_the_servers(tmp_path: Path) -> None:
    (tmp_path / "only_here.py").touch()
    check_importable(None, "only_here", "add it", {"PYTHONPATH": str(tmp_path)})


def test_what_is_missing_is_told_in_a_sentence() -> None:
    with pytest.raises(PlanError) as refused:
        check_importable(None, "no_such_module", "add it")
    expected = f"{sys.executable} cannot import no_such_module (ModuleNotFoundError: No module named 'no_such_module')"
    assert str(refused.value) == f"{expected}; add it."


@pytest.mark.parametrize(
    ("script", "problem"),
    [("echo first >&2; echo the last line. >&2; exit 1", "the last line"), ("exit 3", "exit code 3")],
)
def test_a_broken_environment_tells_its_last_words(tmp_path: Path, script: str, problem: str) -> None:
    with pytest.raises(PlanError, match=rf"cannot import vllm \({problem}\); add it\."):
        check_importable(python(tmp_path, script), "vllm", "add it")


def test_an_import_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreter, "IMPORT_SECONDS", 0.2)
    with pytest.raises(PlanError, match=r"cannot import vllm \(it took more than 0\.2 s\)"):
        check_importable(python(tmp_path, "exec sleep 600"), "vllm", "add it")


def test_what_is_no_program(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"cannot import vllm \(No such file or directory\)"):
        check_importable(str(tmp_path / "none"), "vllm", "add it")
