from pathlib import Path

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError, Question
from tests.launch.experiment.benchmarks.rows import only, write

GSM8K = BENCHMARKS["gsm8k"]
QUESTION = "Ann has 3 bags of 6 pears. How many pears has she?"


def solved(gold: str) -> dict[str, str]:
    return {"question": QUESTION, "answer": f"3 bags of 6 are <<3*6=18>>18.\n#### {gold}"}


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("18", r"So \boxed{18}"),
        ("18", "#### 18"),
        ("18", "She has 18 pears."),
        ("18", "The answer is **18 pears**."),
        ("18", r"\boxed{18\text{ pears}}"),
        ("18", r"\boxed{3 \times 6 = 18}"),
        ("18", r"First \boxed{17}, no: \boxed{18}"),
        ("18", "<think>The answer is 17.</think>The answer is 18."),
        ("1,234", "The answer is $1234."),
        ("70000", r"\boxed{\$70{,}000}"),
        ("70000", "The answer is 70,000.00 dollars."),
        ("-5", r"\boxed{-5}"),
        ("-5", "The answer is -$5."),
        ("20", r"\boxed{20\%}"),
        ("0.5", r"\boxed{\frac{1}{2}}"),
        ("3.50", "Final answer: $3.5"),
        ("18", "The answer is 18\u202fpears."),
        ("18", r"\boxed{\mathbf{18}}"),
        ("18", "**Final Answer:** 18"),
        ("18", "答案是18。"),
    ],
)
def test_right(tmp_path: Path, gold: str, text: str) -> None:
    assert GSM8K.score(only(GSM8K, tmp_path, solved(gold)), text)


@pytest.mark.parametrize(
    ("gold", "text"),
    [
        ("18", ""),
        ("18", "   \n"),
        ("18", "I multiply 3 by 6 and then"),
        ("18", "<think>The answer is 18."),
        ("18", r"\boxed{180}"),
        ("18", r"\boxed{1 8}"),
        ("18", r"\boxed{18.5}"),
        ("18", r"\boxed{}"),
        ("18", r"\boxed{18 - 1 = 17}"),
        ("18", "The answer is -18."),
        ("18", r"\boxed{" + "1" * 100_000 + "}"),
        ("18", r"\boxed{\frac{18}{0}}"),
        ("1234", "The answer is 1.234."),
        ("3", "Step 3 of the solution is to multiply by 6."),
        ("18", "The answer is eighteen."),
    ],
)
def test_wrong(tmp_path: Path, gold: str, text: str) -> None:
    assert not GSM8K.score(only(GSM8K, tmp_path, solved(gold)), text)


@pytest.mark.parametrize(
    "row",
    [
        {"question": QUESTION},
        {"question": QUESTION, "answer": "18"},
        {"question": QUESTION, "answer": "3 * 6\n#### many"},
        {"question": "  ", "answer": "#### 18"},
        {"answer": "#### 18"},
        {"question": 7, "answer": "#### 18"},
    ],
)
def test_a_row_of_another_form_is_refused(tmp_path: Path, row: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"Row 1 of rows .* this is not GSM8K's test.jsonl"):
        GSM8K.load(write(tmp_path, row))


def test_a_question_has_a_prompt_of_its_own(tmp_path: Path) -> None:
    question: Question = only(GSM8K, tmp_path, solved("18"))
    assert question.id == "gsm8k/1"
    assert question.gold == "18"
    assert question.messages == [{"role": "user", "content": question.prompt}]
    assert question.prompt.startswith(QUESTION)
    assert r"\boxed{" in question.prompt
    assert GSM8K.score(question, question.reference)
    assert GSM8K.extract(question.reference) == "18"
