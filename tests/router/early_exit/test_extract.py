"""What an answer's text answers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.early_exit import extract_answer
from router.early_exit.answer_extraction import normalise, number


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"So it is \boxed{42}.", "42"),
        (r"First \boxed{1}, then \boxed{\frac{3}{4}}", "0.75"),
        (r"\boxed{\text{Paris}}", "paris"),
        (r"An open \boxed{7 and the answer is 8.", "8"),
        ("The answer is 1,234.50 dollars.", "1234.5"),
        ("Final answer: -7", "-7"),
        ("We add.\n#### 18", "18"),
        ("It is (B), since (A) is wrong; so (B)", "B"),
        ("Hence:\nC. the third", "C"),
        ("He had 3 apples, then 5, in all 8", "8"),
        ("The answer is 50%.", "50"),
        ("x = 18", "18"),
        ("nothing here", None),
        ("", None),
    ],
)
def test_extraction(text: str, found: str | None) -> None:
    assert extract_answer(text) == found


@pytest.mark.parametrize(
    ("spellings", "normal"),
    [
        (["1,000", "1000", "1000.0", "1000.", "+1000", "$1,000"], "1000"),
        (["1/2", "0.5", ".5", r"\frac{1}{2}", r"\dfrac12", "2/4"], "0.5"),
        (["4/6", r"\frac{2}{3}"], "2/3"),
        (["(b)", "B", "B.", "option b", "B. the second"], "B"),
        (["Paris", "paris.", "**Paris**", " PARIS "], "paris"),
        (["-3", "\u22123"], "-3"),
    ],
)
def test_spellings_of_one_answer(spellings: list[str], normal: str) -> None:
    assert {normalise(each) for each in spellings} == {normal}


def test_different_answers_stay_different() -> None:
    answers = ["1", "10", "0.1", "1/3", "0.33", "-1", "paris", "london", "A", "B", "1 and 2"]
    assert len({normalise(each) for each in answers}) == len(answers)


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    found = extract_answer(text)
    assert found is None or found
    assert normalise(normalise(text)) is not None


@given(st.integers(-(10**12), 10**12))
def test_thousands(value: int) -> None:
    assert number(f"{value:,}") == number(str(value)) == str(value)
