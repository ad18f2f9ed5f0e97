"""What a command leaves behind is seen, what others make meanwhile is not."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from mmap import mmap
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest

from tests.watched import SHARED_MEMORY, Watched, shared_files

# A child maps shared memory, tells its name and stays; the parent ends when its input does.
LEAVES = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", '''
import mmap, tempfile, time
with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="watched-", delete=False) as file:
    file.truncate(4096)
    mapped = mmap.mmap(file.fileno(), 4096)
print(file.name, flush=True)
time.sleep(3600)
'''], start_new_session=True)
sys.stdin.read()
if sys.argv[1] == "kill":
    child.kill()
    child.wait()
"""


@pytest.fixture
def started(request: pytest.FixtureRequest) -> Iterator[tuple[Watched, Path]]:
    """The watched command whose child is killed or left, and the child's shared memory."""
    before = shared_files()
    popen = subprocess.Popen(
        [sys.executable, "-c", LEAVES, request.param], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert popen.stdout is not None
    watched = Watched(popen, before)
    file = Path(popen.stdout.readline().decode().strip())
    try:
        yield watched, file
    finally:
        for process in watched._processes:
            if process.is_running():
                process.send_signal(signal.SIGKILL)
        popen.wait()
        popen.stdout.close()
        file.unlink(missing_ok=True)


def end(watched: Watched, file: Path) -> None:
    """Let the command end once its child's file has been seen."""
    while not any(path == file for path, _ in [*watched._mapped]):
        assert watched.popen.poll() is None
    assert watched.popen.stdin is not None
    watched.popen.stdin.close()
    assert watched.popen.wait(60) == 0


@pytest.mark.parametrize("started", ["kill"], indirect=True)
def test_shared_memory_of_its_own_counts_and_that_of_others_does_not(started: tuple[Watched, Path]) -> None:
    watched, file = started
    with NamedTemporaryFile(dir=SHARED_MEMORY) as unmapped, NamedTemporaryFile(dir=SHARED_MEMORY) as foreign:
        foreign.truncate(4096)
        with mmap(foreign.fileno(), 4096):
            end(watched, file)
            assert watched.left() == [str(file)]
            file.unlink()
            assert watched.left() == []
            assert Path(unmapped.name).exists()


@pytest.mark.parametrize("started", ["leave"], indirect=True)
def test_a_process_of_its_own_counts_and_a_stranger_does_not(started: tuple[Watched, Path]) -> None:
    watched, file = started
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as stranger:
        end(watched, file)
        process, left = watched.left()
        assert process.startswith("psutil.Process(")
        assert str(stranger.pid) not in process
        assert left == str(file)
