"""The error for a server process that ended by itself."""

from pathlib import Path

import pytest

from launch.errors import ServerDied
from launch.processes.base import Command, Process
from launch.processes.exit_error import exit_error, raise_if_exited, start_timeout


class EndedProcess(Process):
    def __init__(self, command: Command, code: int | None) -> None:
        super().__init__(command, pid=0)
        self._code = code

    def exit_code(self) -> int | None:
        return self._code


def command(log: Path) -> Command:
    return Command("m-prefill", (), {}, log)


def test_it_names_the_server_and_ends_with_the_last_lines_of_its_log(tmp_path: Path) -> None:
    log = tmp_path / "m-prefill.log"
    log.write_text("".join(f"line {number}\n" for number in range(20)))
    message = str(exit_error(command(log), 3))
    assert message.startswith(f"m-prefill ended with exit code 3; the last lines of {log}:\n    line 5\n")
    assert message.endswith("\n    line 19")


def test_the_overlays_sentence_takes_the_place_of_its_traceback(tmp_path: Path) -> None:
    log = tmp_path / "m-prefill.log"
    log.write_text(
        "Traceback (most recent call last):\n"
        "sglang_ext.errors.NoMemory: a KV pool of 9.00 GiB is asked for, but 5.86 GiB are free; plan a smaller one.\n"
        "\nReceived sigquit from a child process.\n"
    )
    assert str(exit_error(command(log), -9)) == (
        "m-prefill ended: a KV pool of 9.00 GiB is asked for, but 5.86 GiB are free; plan a smaller one; "
        f"its log is {log}."
    )


def test_a_start_that_takes_too_long_is_named_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "m-prefill.log"
    log.write_text("loading\n")
    assert str(start_timeout(command(log), 300.0)) == (
        f"m-prefill was not ready after 300 s; the last lines of {log}:\n    loading"
    )


def test_a_signal_is_named(tmp_path: Path) -> None:
    message = str(exit_error(command(tmp_path / "none.log"), -9))
    assert "m-prefill was killed by signal 9" in message
    assert message.endswith("\n    (no log)")


def test_only_a_process_that_ended_raises(tmp_path: Path) -> None:
    raise_if_exited(EndedProcess(command(tmp_path / "log"), None))
    with pytest.raises(ServerDied, match="ended with exit code 0"):
        raise_if_exited(EndedProcess(command(tmp_path / "log"), 0))
