from pathlib import Path

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError
from tests.launch.experiment.benchmarks.rows import only, write

AIME = BENCHMARKS["aime25"]
ASKED = "Please reason step by step, and put your final answer within \\boxed{}."


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("70", r"\boxed{70}"),
        ("70", r"\boxed{070}"),
        ("16", r"\boxed{\textbf{016}}"),
        ("588", r"$\boxed{588}$."),
        ("588", "The final answer is 588"),
        ("588", r"The final answer is: $\boxed{588}$. I hope it is correct."),
        (117, r"\boxed{117}"),
        (117.0, r"\boxed{117}"),
        ("0", r"\boxed{0}"),
        ("279", r"\boxed{1279 \bmod 1000 = 279}"),
        ("504", r"\boxed{m+n = 504}"),
        ("821", r"\boxed{821}, since \(m = 800\)."),
    ],
)
def test_right(tmp_path: Path, gold: object, text: str) -> None:
    assert AIME.score(only(AIME, tmp_path, {"problem": "Find it.", "answer": gold}), text)


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("70", r"\boxed{700}"),
        ("70", r"\boxed{-70}"),
        ("70", r"\boxed{70, 71}"),
        ("70", r"<think>\boxed{70}"),
        ("70", r"<think>\boxed{70}</think>I cannot tell."),
        ("70", "The first terms are 30 + 40 + 17 +"),
        ("70", r"\boxed{7 0 1}"),
        ("0", ""),
    ],
)
def test_wrong(tmp_path: Path, gold: object, text: str) -> None:
    assert not AIME.score(only(AIME, tmp_path, {"problem": "Find it.", "answer": gold}), text)


def test_the_files_own_instructions_are_taken_off(tmp_path: Path) -> None:
    question = only(AIME, tmp_path, {"question": f"Find $b$.\n{ASKED}", "answer": "70"})
    assert question.prompt.startswith("Find $b$.\n\nThink")
    assert question.prompt.count("step by step") == 1
    assert question.id == "aime25/1"


def test_a_problem_that_speaks_of_steps_keeps_them(tmp_path: Path) -> None:
    text = "Please reason step by step about stairs.\nHow many are there?"
    assert only(AIME, tmp_path, {"problem": text, "answer": "70"}).prompt.startswith(text)


@pytest.mark.parametrize(
    "row",
    [
        {"problem": "Find it."},
        {"problem": "Find it.", "answer": None},
        {"problem": "Find it.", "answer": " "},
        {"problem": "Find it.", "answer": True},
        {"problem": ASKED, "answer": "70"},
        {"problem": ["Find it."], "answer": "70"},
    ],
)
def test_a_row_of_another_form_is_refused(tmp_path: Path, row: dict[str, object]) -> None:
    with pytest.raises(DataError, match="Row 1 of rows has no"):
        AIME.load(write(tmp_path, row))
