"""Fetches the peers' sdists, checks their hashes, and keeps the folders with tests."""

import hashlib
import os
import subprocess
import sys
import tarfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


class NotFetched(Exception):
    """Something could not be downloaded, or is not what it was."""


@dataclass(frozen=True)
class Sdist:
    """An sdist and the folder of it that has tests; `sha256` is that of the whole file."""

    name: str
    version: str
    sha256: str
    folder: str

    @property
    def stem(self) -> str:
        """The name of its file, and of the one folder in it."""
        return f"{self.name.replace('-', '_')}-{self.version}"


def sdists() -> list[Sdist]:
    """What is downloaded."""
    return [Sdist(**each) for each in tomllib.loads((HERE / "sdists.toml").read_text())["sdist"]]


def fetch(sdist: Sdist, cache: Path) -> Path:
    """The sdist's file in the cache folder, downloaded unless it is there.

    Raises:
        NotFetched: pip cannot get it, or its hash is another one.
    """
    path = cache / f"{sdist.stem}.tar.gz"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _download(sdist, cache)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sdist.sha256:
        path.unlink()
        raise NotFetched(f"{path.name} has the SHA-256 {found}, not {sdist.sha256}; it is removed.")
    return path


def unpack(archive: Path, sdist: Sdist, into: Path) -> Path:
    """Unpack the folder with tests, and only that: beside it is the peer's own router."""
    inside = f"{sdist.stem}/{sdist.folder}/"
    with tarfile.open(archive) as members:
        chosen = [member for member in members if member.name.startswith(inside)]
        members.extractall(into, chosen, filter="data")
    return into / sdist.stem / sdist.folder


def _download(sdist: Sdist, cache: Path) -> None:
    """Let pip download it. pip asks a build backend for metadata; the stand-in gives those in the sdist."""
    options = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--disable-pip-version-check", "--quiet"]
    wanted = cache / f"{sdist.stem}.txt"
    wanted.write_text(f"{sdist.name}=={sdist.version} --hash=sha256:{sdist.sha256}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "--require-hashes", "-r", str(wanted), "-d", str(cache)],
        env={**os.environ, "PYTHONPATH": str(HERE / "build_backend")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    wanted.unlink()
    if done.returncode:
        raise NotFetched(f"pip could not download {sdist.name} {sdist.version}: {done.stderr.strip()[-1000:]}")
