"""The answers of a log, scored a second time by lm-evaluation-harness itself."""

import json
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from launch.experiment.benchmarks import Question
from launch.experiment.lm_eval_scores import gsm8k, main
from launch.experiment.run_line import RunLine

ROWS = [{"question": f"Question {n}?", "answer": f"It is <<{n}={n}>>{n}.\n#### {n}"} for n in (17, 1000, 5)]


def recorded(folder: Path, **changes: Any) -> str:
    """A log with an arm that answers each question rightly, as the benchmark here reads it."""
    run: dict[str, Any] = {"benchmark": "gsm8k", "concurrency": 1, "arm": "tree", "chosen": 1, "score": 1.0, **changes}
    texts = [["no", text] for text in ("so \\boxed{17}.", "it is \\boxed{1,000}", "\\boxed{5} dollars for 2 people")]
    lines = [RunLine(question=f"gsm8k/{number}", texts=each, **run) for number, each in enumerate(texts, 1)]
    (folder / "runs.jsonl").write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
    return str(folder)


def data_file(folder: Path, count: int = 3) -> str:
    path = folder / "gsm8k.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:count]))
    return str(path)


def test_it_takes_the_last_number_of_a_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Which is the answer, unless something else is said behind it."""
    out = tmp_path / "out.json"
    assert main([recorded(tmp_path), "--data", data_file(tmp_path), "--out", str(out)]) == 0
    told = {"runs": 3, "here": 1.0, "lm_eval": 2 / 3, "right_here_alone": 1, "right_there_alone": 0}
    assert orjson.loads(out.read_bytes()) == {"benchmark": "gsm8k", "arms": {"tree": told}}
    assert "66.7%" in capsys.readouterr().out


def test_numbers_are_compared_as_texts() -> None:
    question, is_right = Question("gsm8k/1", "How many?", "17", reference=ROWS[0]["answer"]), gsm8k()
    texts = ["17", "$17", "#### 17", "17.0", "18", ""]
    assert [is_right(question, text) for text in texts] == [True, True, True, False, False, False]


def test_data_that_lack_a_question(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([recorded(tmp_path), "--data", data_file(tmp_path, 2)]) == 2
    assert "gsm8k/3, which the data has not" in capsys.readouterr().err


def test_a_log_whose_runs_have_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([recorded(tmp_path, error="lost"), "--data", data_file(tmp_path)]) == 2
    assert "no scored runs of gsm8k" in capsys.readouterr().err
