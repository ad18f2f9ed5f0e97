"""What all benchmarks with options share."""

import pytest

from launch.experiment.benchmarks.reading.choices import choice_prompt, find_choice, letter_of


def test_the_options_are_lettered() -> None:
    prompt = choice_prompt(" Which? ", ["one", "two"])
    assert prompt.startswith("Which?\n\nA) one\nB) two\n\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{C}", "C"),
        (r"\boxed{\text{(C)}}", "C"),
        ("The answer is (c).", "C"),
        ("**Answer: C**", "C"),
        ("B is tempting, but option C is correct.", "C"),
        ("A) wrong\nB) wrong\n\nC", "C"),
        (r"\boxed{A, C}", None),
        ("", None),
        ("Both are plausible.", None),
        ("正解はC。", "C"),
    ],
)
def test_extracted(text: str, found: str | None) -> None:
    assert find_choice(text) == found


@pytest.mark.parametrize(
    ("chosen", "letter"),
    [
        ("B", "B"),
        ("E", None),
        ("Blue Whale.", "B"),
        ("whale", None),
        ("$\\frac{1}{2}$", "C"),
        ("twin", None),
    ],
)
def test_words_are_those_of_exactly_one_option(chosen: str, letter: str | None) -> None:
    assert letter_of(chosen, ["twin", "blue whale", "1/2", "Twin"]) == letter
