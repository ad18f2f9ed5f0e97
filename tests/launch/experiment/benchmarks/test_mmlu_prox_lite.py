from pathlib import Path
from typing import Any

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError
from tests.launch.experiment.benchmarks.rows import only, write

PROX = BENCHMARKS["mmlu_prox_lite"]
OPTIONS = ["Löwe", "Tiger", "Bär", "Wolf", "Fuchs", "Dachs", "Luchs", "Otter", "Marder", "Igel"]
ROW: dict[str, Any] = {
    "question_id": 71,
    "question": "Welches Tier hat Stacheln?",
    **{f"option_{number}": option for number, option in enumerate(OPTIONS)},
    "answer": "J",
    "answer_index": 9,
    "category": "biology",
}
NINE = {"option_9": None, "answer": "I", "answer_index": 8}


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{J}",
        r"\boxed{Igel}",
        "Die Antwort ist J.",
        "Die Antwort lautet: (J)",
        "La respuesta correcta es J.",
        "La réponse est (J).",
        "答案是J。",
        "答えはJです。",
        "정답은 J입니다.",
        "Ответ: J",
        "الجواب هو J",
        "उत्तर: J",
        r"Deshalb \boxed{\text{J}}",
        "\uff2a",  # a letter as wide as a Chinese one
    ],
)
def test_right(tmp_path: Path, text: str) -> None:
    assert PROX.score(only(PROX, tmp_path, ROW), text)


@pytest.mark.parametrize(
    "text", ["", r"\boxed{I}", r"\boxed{K}", r"\boxed{9}", r"\boxed{I, J}", "Ja, gewiss.",
    "Das weiß ich nicht.", r"\boxed{Igel und Otter}"]
)  # fmt: skip
def test_wrong(tmp_path: Path, text: str) -> None:
    assert not PROX.score(only(PROX, tmp_path, ROW), text)


def test_fewer_options(tmp_path: Path) -> None:
    question = only(PROX, tmp_path, {**ROW, **NINE})
    assert question.id == "mmlu_prox_lite/71"
    assert len(question.detail["options"]) == 9
    assert PROX.score(question, r"\boxed{I}")
    assert not PROX.score(question, r"\boxed{J}"), "there is no such option"


@pytest.mark.parametrize(
    "wrong",
    [
        {"option_3": None},
        {"option_3": ""},
        {"option_1": None, "option_2": None},
        {"answer": "K"},
        {"answer": "I"},
        {"answer": None},
        {"answer": "JJ"},
        {**NINE, "answer": "J", "answer_index": 9},
        {"question": None},
    ],
)
def test_a_row_of_another_form_is_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match="Row 1 of rows has no"):
        PROX.load(write(tmp_path, {**ROW, **wrong}))


def test_the_same_question_in_two_languages_needs_two_loads(tmp_path: Path) -> None:
    write(tmp_path, ROW, name="mmlu_prox_lite_de.jsonl")
    write(tmp_path, {**ROW, "question": "Which animal has spines?"}, name="mmlu_prox_lite_en.jsonl")
    with pytest.raises(DataError, match="has two rows with the id mmlu_prox_lite/71"):
        PROX.load(tmp_path)
    assert len(PROX.load(tmp_path / "mmlu_prox_lite_de.jsonl")) == 1
