"""`make install` where `.venv` is a symlink; what pip installs is left out, being gigabytes."""

import subprocess
from pathlib import Path

import pytest

from launch import install


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`.venv` of a project that nothing was installed in."""
    link = tmp_path / "project" / ".venv"
    link.parent.mkdir()
    monkeypatch.setattr(install, "VENV", str(link))
    monkeypatch.setattr(install, "pip", lambda *arguments: None)
    return link


@pytest.mark.case("0.venv_symlink")
@pytest.mark.parametrize("there", [True, False], ids=["to a folder", "to nothing yet"])
def test_public_case_a_symlink_leads_to_the_environment(
    venv: Path, there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = venv.parent.parent / "venv"
    if there:
        folder.mkdir()
    call, commands = subprocess.call, []

    def without_pip(command: list[str]) -> int:  # which would take seconds; CI makes one with it
        commands.append(command)
        return call([*command, "--without-pip"])

    monkeypatch.setattr(subprocess, "call", without_pip)
    venv.symlink_to("../venv")
    install.install("cuda")
    assert venv.is_symlink()
    assert (venv / "bin" / "python").exists()
    assert (folder / "pyvenv.cfg").is_file()
    assert [command[1:3] for command in commands] == [["-m", "venv"]]


@pytest.mark.case("0.venv_symlink")
def test_public_case_a_symlink_to_a_file_is_one_sentence(venv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (venv.parent / "file").write_text("")
    venv.symlink_to("file")
    with pytest.raises(SystemExit) as refused:
        install.install("cuda")
    assert refused.value.code == 2
    said = capsys.readouterr().err
    assert f"{venv.parent / 'file'} is not a folder but is where .venv belongs" in said
    assert len(said.strip().splitlines()) == 1
