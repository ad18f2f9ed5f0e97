"""A command whose processes and shared memory are watched, so that what it leaves behind is seen.

Only what its own processes made counts: other programs of the machine come and go meanwhile.
"""

import subprocess
import threading
from pathlib import Path

import psutil

SHARED_MEMORY = Path("/dev/shm")
WATCH_SECONDS = 0.2
LOOKS = 10  # at processes that could map a new file; most files are mapped by who makes them at once

File = tuple[Path, int]  # path and inode


class Watched:
    """A started command and every process below it, as they were seen five times a second."""

    def __init__(self, popen: "subprocess.Popen[bytes]", before: set[File]) -> None:
        """`before`: `shared_files()` of a moment before the command was started."""
        self.popen = popen
        self._before = before
        self._looks: dict[File, int] = {}
        self._processes: set[psutil.Process] = set()
        self._mapped: set[File] = set()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        top = psutil.Process(self.popen.pid)
        while self.popen.poll() is None:
            try:
                self._processes.update(top.children(recursive=True), [top])
            except psutil.NoSuchProcess:
                return
            self._note_files()
            threading.Event().wait(WATCH_SECONDS)

    def _note_files(self) -> None:
        """Remember new files that the command's processes map."""
        new = {file for file in shared_files() - self._before - self._mapped if self._looks.setdefault(file, 0) < LOOKS}
        if not new:
            return
        for file in new:
            self._looks[file] += 1
        inodes = {inode for process in self._processes for inode in _mapped_by(process)}
        self._mapped.update(file for file in new if file[1] in inodes)

    def left(self) -> list[str]:
        """What outlived the command: its processes, and shared memory that these had mapped."""
        self._thread.join(60)
        assert self._processes, "no process was seen"
        running = [f"{process}" for process in self._processes if runs(process)]
        return running + sorted(str(path) for path, _ in self.held())

    def held(self) -> set[File]:
        """Shared memory that its processes have mapped and that is still there."""
        return self._mapped & shared_files()

    def listens(self, port: int) -> bool:
        """Whether one of its processes listens on a port."""
        return any(port in _ports(process) for process in self._processes if runs(process))

    def listening(self, url: str) -> int:
        """The number of the process that serves an address."""
        port = int(url.rsplit(":", 1)[1])
        for process in psutil.Process(self.popen.pid).children(recursive=True):
            if port in _ports(process):
                return process.pid
        raise AssertionError(f"no process of the launch listens on {port}")


def shared_files() -> set[File]:
    """The files in shared memory, of whomever."""
    found = set()
    for path in SHARED_MEMORY.iterdir():
        try:
            found.add((path, path.stat().st_ino))
        except FileNotFoundError:
            continue
    return found


def _ports(process: psutil.Process) -> set[int]:
    return {each.laddr.port for each in process.net_connections() if each.status == psutil.CONN_LISTEN}


def runs(process: psutil.Process) -> bool:
    """Whether a process has not ended."""
    # psutil compares the start time too, so that a number used again does not count.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _mapped_by(process: psutil.Process) -> set[int]:
    """Inodes of the shared memory that a process maps.

    By inode, since a semaphore is mapped under another name than it ends up with.
    """
    try:
        lines = Path(f"/proc/{process.pid}/maps").read_text().splitlines()
    except OSError:
        return set()
    return {int(line.split(maxsplit=5)[4]) for line in lines if f" {SHARED_MEMORY}/" in line}
