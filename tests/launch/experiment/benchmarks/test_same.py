"""Which answers that were found are one answer, for votes; and what a sandbox that was not made says."""

import json

import pytest

from launch.experiment.benchmarks import BENCHMARKS, Question
from launch.experiment.benchmarks.errors import SandboxError
from launch.experiment.benchmarks.sandbox import Limits
from launch.experiment.benchmarks.sandbox.run import _outcome

OPTIONS = {"bbh": {"A": "the red one", "B": "the blue one"}, "mmlu": ["the red one", "the blue one"]}
OPEN = "bbh without options"


def are_same(name: str, a: str, b: str) -> bool:
    """Whether a benchmark takes two answers for one; its questions have options, but for those that are `OPEN`."""
    if name in ("math500", "aime25", "hmmt25"):
        pytest.importorskip("math_verify")
    asked = Question("q", "?", "", detail={"options": OPTIONS.get(name, {})})
    benchmark = BENCHMARKS["bbh" if name == OPEN else name]
    told = benchmark.same(asked, a, b)
    assert benchmark.same(asked, b, a) == told
    return told


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("gsm8k", "1/2", "2/4"),
        ("gsm8k", "7", "7"),
        ("math500", r"\frac{1}{2}", "0.5"),
        ("math500", "x+1", "1+x"),
        ("aime25", "042", "42"),
        ("hmmt25", r"2\sqrt{3}", r"\sqrt{12}"),
        ("mmlu", "the red one", "The red one."),
        ("mmlu", "A", "the red one"),
        ("bbh", "(A)", "A"),
        ("bbh", "(A) the red one", "(A)"),
        ("bbh", "the red one", "(A)"),
        ("humaneval", "def f(): pass", "def f(): pass"),
        (OPEN, "] ) }", "])}"),
        (OPEN, "Ball, cat", "ball cat"),
        (OPEN, "12 apples", "12"),
        (OPEN, "1,000", "1000"),
        (OPEN, "Yes, it is plausible", "Yes"),
        (OPEN, "not valid", "invalid"),
    ],
)
def test_same(name: str, a: str, b: str) -> None:
    assert are_same(name, a, b)


@pytest.mark.parametrize(
    ("name", "a", "b"),
    [
        ("gsm8k", "7", "-7"),
        ("math500", r"\frac{1}{2}", r"\frac{1}{3}"),
        ("aime25", "42", "421"),
        ("mmlu", "A", "B"),
        ("bbh", "(A)", "the blue one"),
        ("mmlu", "A", "the blue one"),
        ("humaneval", "def f(): pass", "def f(): return 1"),
        (OPEN, "] ) }", "> }"),
        (OPEN, "-35", "35"),
        (OPEN, "yes", "no"),
        (OPEN, "valid", "invalid"),
        (OPEN, "ball cat", "cat ball"),
        (OPEN, "12", "21"),
    ],
)
def test_not_the_same(name: str, a: str, b: str) -> None:
    assert not are_same(name, a, b)


def test_a_sandbox_that_was_not_made_says_nothing_of_the_code() -> None:
    told = json.dumps({"cannot": "unshare: no space left", "token": "t"}).encode()
    with pytest.raises(SandboxError, match="could not be made: unshare: no space left"):
        _outcome(told, "t", 121, Limits())
    forged = json.dumps({"cannot": "nothing"}).encode()
    assert not _outcome(forged, "t", 121, Limits()).passed
