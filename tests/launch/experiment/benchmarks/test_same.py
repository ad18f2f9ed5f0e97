"""Which answers that were found are one answer, for votes; and what a sandbox that was not made says."""

import json

import pytest

from launch.experiment.benchmarks import BENCHMARKS, Question
from launch.experiment.benchmarks.errors import SandboxError
from launch.experiment.benchmarks.sandbox import Limits
from launch.experiment.benchmarks.sandbox.run import _outcome

OPTIONS = {"bbh": {"A": "the red one", "B": "the blue one"}, "mmlu": ["the red one", "the blue one"]}


def question(name: str, *, choice: bool) -> Question:
    """A question of a benchmark; those of BBH have options or not."""
    options = OPTIONS.get(name, {}) if choice else {}
    return Question("q", "?", "", detail={"options": options})


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
    ],
)
def test_same(name: str, a: str, b: str) -> None:
    if name in ("math500", "aime25", "hmmt25"):
        pytest.importorskip("math_verify")
    asked = question(name, choice=True)
    assert BENCHMARKS[name].same(asked, a, b)
    assert BENCHMARKS[name].same(asked, b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("] ) }", "])}"),
        ("Ball, cat", "ball cat"),
        ("12 apples", "12"),
        ("1,000", "1000"),
        ("Yes, it is plausible", "Yes"),
        ("not valid", "invalid"),
    ],
)
def test_the_same_without_options(a: str, b: str) -> None:
    asked = question("bbh", choice=False)
    assert BENCHMARKS["bbh"].same(asked, a, b)
    assert BENCHMARKS["bbh"].same(asked, b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [("] ) }", "> }"), ("-35", "35"), ("yes", "no"), ("valid", "invalid"), ("ball cat", "cat ball"), ("12", "21")],
)
def test_not_the_same_without_options(a: str, b: str) -> None:
    asked = question("bbh", choice=False)
    assert not BENCHMARKS["bbh"].same(asked, a, b)
    assert not BENCHMARKS["bbh"].same(asked, b, a)


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
    ],
)
def test_not_the_same(name: str, a: str, b: str) -> None:
    if name in ("math500", "aime25"):
        pytest.importorskip("math_verify")
    assert not BENCHMARKS[name].same(question(name, choice=True), a, b)


def test_a_sandbox_that_was_not_made_says_nothing_of_the_code() -> None:
    told = json.dumps({"cannot": "unshare: no space left", "token": "t"}).encode()
    with pytest.raises(SandboxError, match="could not be made: unshare: no space left"):
        _outcome(told, "t", 121, Limits())
    forged = json.dumps({"cannot": "nothing"}).encode()
    assert not _outcome(forged, "t", 121, Limits()).passed
