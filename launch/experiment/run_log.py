"""The folder of an experiment: what it is, and its log of runs, which outlives any end of the process.

experiment.json   the config and its hash; a start with another one is refused
runs.jsonl        one line for each run, on the disk before the next one begins; runs.jsonl.xz may stand in its place,
                  to be read only: with what agents said it takes a tenth of the room
sessions.jsonl    one line for each start: machine, versions, command
"""

import fcntl
import lzma
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import orjson

from launch.errors import ConfigError
from launch.experiment.run_line import RunLine

EXPERIMENT, RUNS, SESSIONS, LOCK = "experiment.json", "runs.jsonl", "sessions.jsonl", ".lock"
PACKED_RUNS = f"{RUNS}.xz"


class RunLog:
    """The log in a folder, open for one process at a time.

    Args:
        folder: Made where it is not there.
        identity: What the experiment is, with its `hash`.

    Raises:
        ConfigError: The folder is of another experiment, another process uses it, or its log is damaged.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = (folder / LOCK).open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigError(f"another process runs the experiment in {folder}; wait for it, or stop it.") from None
        try:
            if (folder / PACKED_RUNS).exists():
                raise ConfigError(f"{folder} has its runs packed; unpack them first (xz -d {folder / PACKED_RUNS}).")
            self._check_identity(identity)
            cut_torn_line(folder / RUNS)
            self.lines = read_runs(folder)
            cut_torn_line(folder / SESSIONS)
            self._runs = (folder / RUNS).open("ab")
        except BaseException:
            self._lock.close()
            raise
        _sync_folder(folder)

    def _check_identity(self, identity: Mapping[str, Any]) -> None:
        path = self.folder / EXPERIMENT
        if path.exists():
            before = read_identity(self.folder)
            if before.get("hash") != identity["hash"]:
                changed = sorted(
                    key for key in {*before, *identity} - {"hash"} if before.get(key) != _plain(identity.get(key))
                )
                raise ConfigError(
                    f"{self.folder} has an experiment with other settings ({', '.join(changed) or 'unknown'}); give "
                    "another --out, or the settings it was begun with."
                )
            return
        if (self.folder / RUNS).exists():
            raise ConfigError(f"{self.folder} has runs of an experiment that is not known; give another --out.")
        new = path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(orjson.dumps(dict(identity), option=orjson.OPT_INDENT_2))
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)

    def begin_session(self, about: Mapping[str, Any]) -> int:
        """Note a start of the command; return its number, from 1."""
        with (self.folder / SESSIONS).open("ab+") as file:
            file.seek(0)
            number = sum(1 for _ in file) + 1
            file.write(orjson.dumps({"session": number, **about}) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        return number

    def append(self, line: RunLine) -> None:
        """Write a run; it is on the disk when this returns. One thread may append at a time.

        Raises:
            ConfigError: It cannot be written, because the disk is full for instance.
        """
        try:
            self._runs.write(msgspec.json.encode(line) + b"\n")
            self._runs.flush()
            os.fsync(self._runs.fileno())
        except OSError as error:
            raise ConfigError(f"{self.folder / RUNS} cannot be written: {error.strerror}.") from None
        self.lines.append(line)

    def close(self) -> None:
        """Let other processes have the folder."""
        with suppress(OSError):  # of a full disk, which `append` has told
            self._runs.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_identity(folder: Path) -> dict[str, Any]:
    """What the experiment in a folder is; raises `ConfigError` when there is none."""
    try:
        told = orjson.loads((folder / EXPERIMENT).read_bytes())
    except OSError:
        raise ConfigError(f"{folder} has no {EXPERIMENT}: there is no experiment in it.") from None
    except ValueError:
        raise ConfigError(f"{folder / EXPERIMENT} is damaged.") from None
    if not isinstance(told, dict):
        raise ConfigError(f"{folder / EXPERIMENT} is damaged.")
    return told


def read_sessions(folder: Path) -> list[dict[str, Any]]:
    """The starts of the command; a last line that was not written whole is left out."""
    path = folder / SESSIONS
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [orjson.loads(line) for line in lines]


def read_runs(folder: Path) -> list[RunLine]:
    """The runs of a log; a last line that was not written whole is left out.

    Raises:
        ConfigError: A line or the packed file is damaged, a run is there twice, or the log is there packed and not.
    """
    path, raw = folder / RUNS, b""
    if path.exists() and (folder / PACKED_RUNS).exists():
        raise ConfigError(f"{folder} has both {RUNS} and {PACKED_RUNS}; remove one of them.")
    if path.exists():
        raw = path.read_bytes()
    elif (path := folder / PACKED_RUNS).exists():
        try:
            raw = lzma.decompress(path.read_bytes())
        except lzma.LZMAError as error:
            raise ConfigError(f"{path} is damaged ({error}).") from None
    decoder = msgspec.json.Decoder(RunLine)
    lines = []
    answered = set()
    for number, text in enumerate(raw.split(b"\n")[:-1], 1):
        try:
            line = decoder.decode(text)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise ConfigError(f"line {number} of {path} is damaged ({error}); remove it to repeat its run.") from None
        if line.error is None:
            if line.key in answered:
                raise ConfigError(f"line {number} of {path} repeats a run that is there already; remove one of them.")
            answered.add(line.key)
        lines.append(line)
    return lines


def cut_torn_line(path: Path) -> None:
    """Cut off a last line without its end: what was being written when the process or the machine died."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        whole = file.read().rfind(b"\n") + 1
        file.truncate(whole)
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Have the names of new files on the disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    return orjson.loads(orjson.dumps(value))
