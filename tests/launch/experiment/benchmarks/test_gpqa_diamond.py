import csv
from pathlib import Path
from typing import Any

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError, Unscorable
from tests.launch.experiment.benchmarks.rows import only, write

GPQA = BENCHMARKS["gpqa_diamond"]
ROW: dict[str, Any] = {
    "Record ID": "rec1",
    "Question": "Which spectrum has\ntwo lines?",
    "Correct Answer": 'the second, "b"\n',
    "Incorrect Answer 1": "the first",
    "Incorrect Answer 2": "the third",
    "Incorrect Answer 3": "none, of course",
    "Subdomain": "Optics",
}


def test_csv_with_commas_quotes_and_lines_in_a_field(tmp_path: Path) -> None:
    path = tmp_path / "gpqa_diamond.csv"
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        rows = csv.DictWriter(file, ROW)
        rows.writeheader()
        rows.writerow(ROW)
    for place in (path, tmp_path):
        (question,) = GPQA.load(place)
        assert (question.id, question.task) == ("gpqa_diamond/rec1", "Optics")
        assert question.detail["options"]["ABCD".index(question.gold)] == 'the second, "b"'
        assert GPQA.score(question, question.reference)


def test_the_order_of_options_is_the_questions_own(tmp_path: Path) -> None:
    rows = [{**ROW, "Record ID": f"rec{number}", "Question": f"Which, of {number}?"} for number in range(40)]
    first = GPQA.load(write(tmp_path, *rows))
    again = {each.id: each.gold for each in GPQA.load(write(tmp_path, *reversed(rows)), seed=5)}
    assert {each.id: each.gold for each in first} == again
    assert set(again.values()) == set("ABCD")


@pytest.mark.parametrize(
    "form",
    [
        r"\boxed{{{0}}}",
        r"\boxed{{\text{{({0})}}}}",
        "The answer is ({0}).",
        "**Answer:** {0}",
        "I think option {0} is correct",
        "Reasons.\n\n{0}",
        "The correct choice is {0}) the second",
        "<think>\\boxed{{Z}}</think>\\boxed{{{0}}}",
        r'\boxed{{the second, "b"}}',
    ],
)
def test_right(tmp_path: Path, form: str) -> None:
    question = only(GPQA, tmp_path, ROW)
    assert GPQA.score(question, form.format(question.gold))
    if "{0}" in form:
        for letter in set("ABCDE") - {question.gold}:
            assert not GPQA.score(question, form.format(letter))


@pytest.mark.parametrize(
    "text",
    ["", "A, B, C or D", r"\boxed{A, B}", "The answer is (A) or (B).", r"\boxed{E}", "Hard to say.",
     "<think>\\boxed{A}",
     r"\boxed{the}", "The answer is: the first or the second."],
)  # fmt: skip
def test_no_choice_is_wrong_whatever_is_right(tmp_path: Path, text: str) -> None:
    rows = [{**ROW, "Record ID": f"rec{number}", "Question": f"Which, of {number}?"} for number in range(10)]
    assert not any(GPQA.score(each, text) for each in GPQA.load(write(tmp_path, *rows)))


@pytest.mark.parametrize("column", ["Question", "Correct Answer", "Incorrect Answer 3"])
def test_a_row_of_another_form_is_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(DataError, match=f'has no text under "{column}".*gpqa_diamond.csv'):
        GPQA.load(write(tmp_path, {**ROW, column: None}))


def test_two_options_that_are_the_same_are_refused(tmp_path: Path) -> None:
    reading = GPQA.read(write(tmp_path, ROW, {**ROW, "Record ID": "2", "Incorrect Answer 2": ROW["Correct Answer"]}))
    assert [each.id for each in reading.refused] == ["gpqa_diamond/2"]
    with pytest.raises(Unscorable, match="has its right answer among the wrong ones"):
        GPQA.score(reading.refused[0], "A")
