from pathlib import Path

import pytest

from launch.experiment.benchmarks import BENCHMARKS
from launch.experiment.benchmarks.check import check, is_well, main, shuffled
from tests.launch.experiment.benchmarks.rows import write

ROWS = [{"question": f"How many are {n}?", "answer": f"#### {n}"} for n in range(30)]


def test_right_answers_score_and_others_do_not(tmp_path: Path) -> None:
    found = check(BENCHMARKS["gsm8k"], write(tmp_path, *ROWS))
    assert (found.rows, found.right, found.asked, found.shuffled, found.expected) == (30, 30, 30, 0, 0)
    assert is_well(found)


def test_a_data_set_without_right_answers_shows_that_its_verifiers_run(tmp_path: Path) -> None:
    arguments = [{"min_words": 1, "max_words": 3}]
    rows = [
        {
            "key": str(n),
            "prompt": "One two three." * n,
            "instruction_id_list": ["count:word_count_range"],
            "kwargs": arguments,
        }
        for n in (1, 2)
    ]
    found = check(BENCHMARKS["ifbench"], write(tmp_path, *rows))
    assert (found.asked, found.tried, found.shuffled, found.expected) == (0, 2, 1, 0)
    assert is_well(found)


def test_each_question_gets_another_ones_answer_of_its_task(tmp_path: Path) -> None:
    rows = [{"question": "?", "choices": ["x", "y"], "answer": n % 2, "subject": f"s{n % 3}"} for n in range(12)]
    questions = BENCHMARKS["mmlu"].read(write(tmp_path, *rows)).questions
    others = shuffled(questions, seed=1)
    assert sorted(each.id for each in others) == sorted(each.id for each in questions)
    assert all(a.id != b.id and a.task == b.task for a, b in zip(questions, others, strict=True))


def test_the_command_prints_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, *ROWS, name="gsm8k.jsonl")
    assert main(["--data", str(tmp_path), "gsm8k", "--limit", "20"]) == 0
    said = capsys.readouterr().out
    assert "20/20 100.0%" in said
    assert "0/20 0.0%" in said


def test_a_data_set_that_was_asked_for_and_is_not_there_is_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path), "gsm8k"]) == 1
    assert "has none of gsm8k.jsonl*" in capsys.readouterr().out
    assert main(["--data", str(tmp_path), "gsm9k"]) == 2
    assert 'There is no benchmark "gsm9k"' in capsys.readouterr().err
