"""The log: what is written stays, what was torn is repeated, what is damaged is said."""

import lzma
from pathlib import Path

import pytest

from launch.errors import ConfigError
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import EXPERIMENT, PACKED_RUNS, RUNS, RunLog, read_runs

IDENTITY = {"hash": "h", "seed": 1}


def line(question: str, **more: object) -> RunLine:
    return RunLine(benchmark="b", concurrency=1, question=question, arm="a", **more)  # type: ignore[arg-type]


def test_what_was_appended_is_there_again(tmp_path: Path) -> None:
    with RunLog(tmp_path, IDENTITY) as log:
        log.append(line("q1", score=0.5, lengths={"p": 3}, texts=["é\n"]))
        assert read_runs(tmp_path) == log.lines, "it is in the file before anything else happens"
    with RunLog(tmp_path, IDENTITY) as log:
        assert log.lines == [line("q1", score=0.5, lengths={"p": 3}, texts=["é\n"])]


@pytest.mark.parametrize("cut", [1, 10, 50])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    with RunLog(tmp_path, IDENTITY) as log:
        log.append(line("q1"))
        log.append(line("q2"))
    path = tmp_path / RUNS
    path.write_bytes(path.read_bytes()[:-cut])
    assert len(read_runs(tmp_path)) == 1
    with RunLog(tmp_path, IDENTITY) as log:
        log.append(line("q3"))
    assert [each.question for each in read_runs(tmp_path)] == ["q1", "q3"]


def test_a_damaged_line_and_a_doubled_answer_are_said(tmp_path: Path) -> None:
    with RunLog(tmp_path, IDENTITY) as log:
        log.append(line("q1"))
    path = tmp_path / RUNS
    whole = path.read_bytes()
    path.write_bytes(b"{broken}\n" + whole)
    with pytest.raises(ConfigError, match=r"line 1 of .* is damaged"):
        read_runs(tmp_path)
    path.write_bytes(whole * 2)
    with pytest.raises(ConfigError, match=r"line 2 of .* repeats a run"):
        RunLog(tmp_path, IDENTITY)
    path.write_bytes(whole)
    RunLog(tmp_path, IDENTITY).close()  # an error has not kept the lock


def test_another_experiment_is_refused(tmp_path: Path) -> None:
    RunLog(tmp_path, IDENTITY).close()
    with pytest.raises(ConfigError, match=r"other settings \(seed\)"):
        RunLog(tmp_path, {"hash": "i", "seed": 2})
    (tmp_path / EXPERIMENT).unlink()
    with pytest.raises(ConfigError, match="not known"):
        RunLog(tmp_path, IDENTITY)
    (tmp_path / EXPERIMENT).write_text("[")
    with pytest.raises(ConfigError, match="damaged"):
        RunLog(tmp_path, IDENTITY)


def test_packed_runs_are_read_and_not_added_to(tmp_path: Path) -> None:
    with RunLog(tmp_path, IDENTITY) as log:
        log.append(line("q1"))
    plain, packed = tmp_path / RUNS, tmp_path / PACKED_RUNS
    packed.write_bytes(lzma.compress(plain.read_bytes()))
    plain.unlink()
    assert read_runs(tmp_path) == [line("q1")]
    with pytest.raises(ConfigError, match=r"unpack them first \(xz -d .*runs\.jsonl\.xz\)"):
        RunLog(tmp_path, IDENTITY)
    plain.touch()
    with pytest.raises(ConfigError, match="has both"):
        read_runs(tmp_path)
    plain.unlink()
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(ConfigError, match=r"runs\.jsonl\.xz is damaged"):
        read_runs(tmp_path)
