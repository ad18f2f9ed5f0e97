"""The environment that the suites run in: what they need, and neither a peer's router nor SGLang."""

import hashlib
import subprocess
import sys
import venv
from pathlib import Path

from tests.peers.download import NotFetched

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def make_environment(folder: Path) -> Path:
    """The `bin` folder of the environment, made anew unless one with the same contents is there.

    Raises:
        NotFetched: pip cannot install what it needs.
    """
    needs, versions = HERE / "requirements.txt", ROOT / "constraints.txt"
    digest = hashlib.sha256(needs.read_bytes() + versions.read_bytes() + sys.version.encode()).hexdigest()
    stamp = folder / "contents"
    if not stamp.exists() or stamp.read_text() != digest:
        venv.create(folder, clear=True, with_pip=True)
        options = ["--quiet", "--disable-pip-version-check", "--constraint", str(versions)]
        done = subprocess.run(
            [str(folder / "bin" / "python"), "-m", "pip", "install", *options, "-r", str(needs)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotFetched(f"pip could not install what the suites need: {done.stderr.strip()[-1000:]}")
        stamp.write_text(digest)
    return folder / "bin"
