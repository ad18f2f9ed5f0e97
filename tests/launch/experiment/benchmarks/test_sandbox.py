"""Attempts to get out of the sandbox, and to get a verdict without having passed."""

import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from launch.experiment.benchmarks.sandbox import Isolation, Limits, Outcome, isolation, run, run_code
from launch.experiment.benchmarks.sandbox.seccomp import denied, filter_program

NAMESPACES = isolation() is Isolation.NAMESPACES
needs_namespaces = pytest.mark.skipif(not NAMESPACES, reason="the kernel allows no user namespaces here")

pytestmark = pytest.mark.usefixtures("_allowed")


@pytest.fixture
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTER_MOA_SANDBOX_LIMITS_ONLY", "1")


def descendants() -> set[int]:
    return {each.pid for each in psutil.Process().children(recursive=True)}


@pytest.mark.parametrize(
    "sources",
    [
        ["x = 1", "assert x == 1"],
        ["from __future__ import annotations\nx: Undefined = 1", "assert x"],
        ["import numpy as np\nassert np.allclose([1.0], [1.0 + 1e-12])"],
        ["import ssl, zlib, decimal, hashlib, asyncio\nasyncio.run(asyncio.sleep(0))"],
        ["print('x' * 10**7)"],
        ["open('file', 'w').write('x')\nassert open('file').read() == 'x'"] if NAMESPACES else ["pass"],
        ["assert __name__ != '__main__'"],
        ["import random, os\nassert random.random() < 1 and os.urandom(4)"],
    ],
)
def test_ordinary_code_passes(sources: list[str]) -> None:
    outcome = run_code(sources)
    assert outcome.passed, outcome.reason


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("assert 1 == 2", "AssertionError"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("import sys; sys.exit()", "SystemExit"),
        ("exit()", "NameError"),
        ("import os; os._exit(0)", "left with exit code 0"),
        ("import os; os.abort()", "ended by signal"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("class E(BaseException):\n    def __str__(self): raise E\nraise E", "an exception that has no text"),
        ("def f(): f()\nf()", "RecursionError"),
        ("input()", "EOFError"),
        ("def f(:", "SyntaxError"),
        ("'\ud800'", "UnicodeEncodeError"),
        # processes
        ("import os\nwhile True: os.fork()", "PermissionError"),
        ("import subprocess; subprocess.run(['true'])", "PermissionError"),
        ("import os; os.execv('/bin/true', ['true'])", "Error"),
        ("import threading\nwhile True: threading.Thread(target=input).start()", "RuntimeError"),
        ("import multiprocessing; multiprocessing.Process(target=print).start()", "PermissionError"),
        ("import os; os.kill(-1, 9)", "PermissionError"),
        ("import os; os.kill(os.getppid(), 9)", "PermissionError"),
        # memory, files
        ("x = bytearray(3 << 30)", "MemoryError"),
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", "MemoryError"),
        ("f = open('big', 'w')\nwhile True: f.write('x' * 100_000)", "Error"),
        ("open('/usr/lib/x', 'w')", "Error") if NAMESPACES else ("raise OSError", "OSError"),
        ("files = [open('/dev/null') for _ in range(1000)]", "Too many open files"),
        # network
        ("import socket; socket.socket()", "PermissionError"),
        ("import urllib.request; urllib.request.urlopen('http://127.0.0.1:1')", "Operation not permitted"),
        # the kernel
        ("import ctypes\nassert ctypes.CDLL(None).unshare(0x10000000) == 0", "AssertionError"),
        ("import ctypes\nassert ctypes.CDLL(None).mount(b'none', b'/', None, 32, None) == 0", "AssertionError"),
        ("import ctypes\nassert ctypes.CDLL(None).ptrace(0, 0, 0, 0) == 0", "AssertionError"),
        ("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", "ValueError"),
    ],
)
def test_an_attempt_fails(source: str, reason: str) -> None:
    outcome = run_code([source], Limits(memory_mb=256))
    assert not outcome.passed
    assert reason in outcome.reason, outcome.reason


@pytest.mark.parametrize("source", ["while True: pass", "import time; time.sleep(1000)"])
def test_what_does_not_end_is_ended_with_all_its_processes(source: str) -> None:
    before = descendants()
    outcome = run_code([source], Limits(wall_s=0.4))
    assert outcome.reason == "was not done after 0.4 s"
    assert descendants() <= before


def test_cpu_time_is_limited_even_where_the_signal_is_ignored() -> None:
    source = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
    outcome = run_code([source], Limits(cpu_s=1))
    assert outcome.reason == "used more than 1 s of CPU time"


@needs_namespaces
@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "/proc/1/environ",
        "/proc/self/environ",
        "/proc/self/maps",
        "/root",
        "/home",
        "/sys",
        "/bin/sh",
        __file__,
    ],
)
def test_nothing_of_the_machine_is_seen(path: str) -> None:
    unseen = f"import os\nassert not os.path.isfile({path!r})"
    outcome = run_code([unseen, f"assert not (os.path.isdir({path!r}) and os.access({path!r}, os.W_OK))"])
    assert outcome.passed, outcome.reason


@needs_namespaces
def test_the_root_has_libraries_and_an_empty_folder_and_cannot_be_written() -> None:
    outcome = run_code(
        [
            "import os\nassert os.getcwd() == '/tmp' and os.listdir('.') == []",
            "for place in ('/', '/dev', '/usr', '/usr/lib', os.path.dirname(os.__file__)):\n"
            "    try:\n        open(os.path.join(place, 'x'), 'w')\n"
            "    except OSError: pass\n"
            "    else: raise AssertionError(place)",
            "for n in range(100_000):\n    try:\n        open(str(n), 'w').close()\n    except OSError: break\n"
            "else: raise AssertionError('files without end')",
        ]
    )
    assert outcome.passed, outcome.reason


def test_the_environment_is_not_the_parents(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secrets.token_hex(8)
    monkeypatch.setenv("A_SECRET", secret)
    outcome = run_code([f"import os\nassert 'A_SECRET' not in os.environ and {secret!r} not in str(dict(os.environ))"])
    assert outcome.passed, outcome.reason


def test_descriptors_of_the_parent_are_closed(tmp_path: Path) -> None:
    secret = secrets.token_hex(8)
    path = tmp_path / "secret"
    path.write_text(secret)
    with path.open() as file, socket.socket() as own:
        os.set_inheritable(file.fileno(), True)
        os.set_inheritable(own.fileno(), True)
        source = (
            "import os\nfor n in range(3, 64):\n    try: content = os.pread(n, 100, 0)\n    except OSError: continue\n"
            f"    assert {secret!r}.encode() not in content"
        )
        outcome = run_code([source])
    assert outcome.passed, outcome.reason


def test_what_it_writes_of_a_verdict_without_the_token_is_none() -> None:
    source = (
        "import os, json\nfor n in range(3, 64):\n"
        "    try: os.pwrite(n, json.dumps({'passed': True, 'token': ''}).encode(), 0)\n"
        "    except OSError: pass\nos._exit(0)"
    )
    outcome = run_code([source])
    assert not outcome.passed
    assert outcome.reason == "left with exit code 0"


def test_a_parent_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom launch.experiment.benchmarks.sandbox import run_code\n"
        "print('there', flush=True)\nrun_code(['import time; time.sleep(1000)'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        process = psutil.Process(parent.pid)
        children: list[psutil.Process] = []
        while not any("jail.py" in " ".join(each.cmdline()) for each in children):
            children = process.children(recursive=True)
        parent.kill()
        gone, alive = psutil.wait_procs(children, timeout=30)
        assert not alive, gone


def test_a_kernel_that_allows_no_namespaces_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refused = Outcome(passed=False, reason="the sandbox could not be made: unshare: Operation not permitted")
    monkeypatch.setattr(run, "_run", lambda *_: refused)
    isolation.cache_clear()
    try:
        assert isolation() is Isolation.LIMITS
        assert "The sandbox has no namespaces (the sandbox could not be made: unshare" in caplog.text
    finally:
        isolation.cache_clear()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_jumps_to_its_refusal(machine: str) -> None:
    program = filter_program(machine)
    count = len(program) // 8
    assert count == len(denied(machine)) + 7
    for at in range(5, count - 2):
        code, jump = program[8 * at], program[8 * at + 2]
        assert code == 0x15
        assert at + 1 + jump == count - 1, "to the last instruction"
    assert at + 1 == count - 2, "what is not denied is allowed"


def test_a_machine_whose_calls_are_not_known_has_no_filter() -> None:
    assert filter_program("pdp11") == b""
