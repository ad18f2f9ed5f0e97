"""A copy of the installed SGLang in which one file differs."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path


def altered_sglang(folder: Path, file: str, change: tuple[str, str]) -> Path:
    """Make `folder/sglang` of links to the installed package, except for one rewritten file.

    Args:
        folder: Where to make it; goes first on PYTHONPATH.
        file: Path of the file inside the package.
        change: Text in it and what replaces its first occurrence.
    """
    spec = importlib.util.find_spec("sglang")
    assert spec is not None
    assert spec.origin is not None
    source, target = Path(spec.origin).parent, folder / "sglang"
    target.mkdir(parents=True)
    for part in Path(file).parts:
        for entry in source.iterdir():  # compiled files too: that of the rewritten one does not fit its time
            if entry.name != part:
                (target / entry.name).symlink_to(entry)
        source, target = source / part, target / part
        if source.is_dir():
            target.mkdir()
    text = source.read_text()
    assert change[0] in text
    target.write_text(text.replace(*change, 1))
    return folder


def run(arguments: list[str], path: Path) -> "subprocess.CompletedProcess[str]":
    """Run Python with the altered package first on its path."""
    return subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": str(path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
