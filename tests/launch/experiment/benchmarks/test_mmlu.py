import json
from pathlib import Path
from typing import Any

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError
from tests.launch.experiment.benchmarks.rows import only, write

MMLU = BENCHMARKS["mmlu"]
ROW: dict[str, Any] = {
    "question": "Which is prime?",
    "subject": "mathematics",
    "choices": ["4", "6", "7", "9"],
    "answer": 2,
}


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{C}",
        "C",
        "c)",
        "The answer is C.",
        "The correct answer is (C) 7",
        "Answer: **C**",
        "A) 4 = 2 * 2\nB) 6 = 2 * 3\nD) 9 = 3 * 3\n\nThe answer is C",
        r"\boxed{7}",
        r"The answer is $\boxed{\mathrm{C}}$",
        "Die Antwort ist C.",
        "So option C is the right one: option C is correct.",
    ],
)
def test_right(tmp_path: Path, text: str) -> None:
    assert MMLU.score(only(MMLU, tmp_path, ROW), text)


@pytest.mark.parametrize(
    "text",
    ["", r"\boxed{2}", r"\boxed{B}", r"\boxed{CD}", r"\boxed{B, C}", "The answer is B, not C.", r"\boxed{77}",
     r"\boxed{E}",
     "Cats like milk.", "A) 4\nB) 6\nC) 7\nD) 9"],
)  # fmt: skip
def test_wrong(tmp_path: Path, text: str) -> None:
    assert not MMLU.score(only(MMLU, tmp_path, ROW), text)


@pytest.mark.parametrize("answer", [2, "C", "c", " C "])
def test_an_answer_is_an_index_or_a_letter(tmp_path: Path, answer: object) -> None:
    assert only(MMLU, tmp_path, {**ROW, "answer": answer}).gold == "C"


@pytest.mark.parametrize(
    "wrong",
    [{"answer": 4}, {"answer": -1}, {"answer": True}, {"answer": "CD"}, {"answer": ""}, {"answer": None},
     {"answer": 1.5},
     {"choices": "4679"}, {"choices": ["4"]}, {"choices": ["4", None, "7"]}, {"choices": None}, {"question": ""}],
)  # fmt: skip
def test_a_row_of_another_form_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match="Row 1 of rows has n"):
        MMLU.load(write(tmp_path, {**ROW, **wrong}))


def test_the_authors_csv_without_headings(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "anatomy_test.csv").write_text('"Which, then?",a,"b, c",d,e,B\nAnd?,1,2,3,4,D\n')
    (tmp_path / "test" / "virology_test.csv").write_text("Third?,x,y,z,w,A\n")
    questions = {each.id: each for each in MMLU.load(tmp_path)}
    assert sorted(questions) == ["mmlu/anatomy_test/1", "mmlu/anatomy_test/2", "mmlu/virology_test/1"]
    first = questions["mmlu/anatomy_test/1"]
    assert (first.task, first.gold, first.detail["options"][1]) == ("anatomy", "B", "b, c")


def test_a_row_may_say_type_for_subject(tmp_path: Path) -> None:
    row = {**ROW, "type": "number_theory"}
    del row["subject"]
    assert only(MMLU, tmp_path, row).task == "number_theory"


def test_the_hubs_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.Table.from_pylist([ROW]), tmp_path / "test-00000-of-00001.parquet")
    (question,) = MMLU.load(tmp_path)
    assert json.dumps(question.detail["options"]) == '["4", "6", "7", "9"]'
