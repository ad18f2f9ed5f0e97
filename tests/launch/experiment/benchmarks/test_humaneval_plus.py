from pathlib import Path
from typing import Any

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError
from tests.launch.experiment.benchmarks.rows import only, write

PLUS = BENCHMARKS["humaneval_plus"]
PROMPT = 'def halve(x: float) -> float:\n    """Half of x.\n    """\n'
TEST = """
import numpy as np

def is_floats(x) -> bool:
    return isinstance(x, float)

def assertion(out, exp, atol):
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if out != exp and atol != 0:
        assert np.allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert out == exp, f"out: {out}, exp: {exp}"

def check(candidate):
    inputs = [[1.0], [3.0], [1e300], [-0.2]]
    results = [0.5, 1.5, 5e299, -0.1]
    for i, (inp, exp) in enumerate(zip(inputs, results)):
        assertion(candidate(*inp), exp, 0)
"""
ROW: dict[str, Any] = {
    "task_id": "HumanEval/9",
    "prompt": PROMPT,
    "entry_point": "halve",
    "canonical_solution": "    return x / 2\n",
    "test": TEST,
}


@pytest.mark.parametrize(
    "source",
    [
        "def halve(x):\n    return x / 2",
        "    return x * 0.5",
        "def halve(x):\n    return x / 2 + 1e-9",
        "import math\ndef halve(x):\n    return math.ldexp(x, -1)",
        "import numpy\ndef halve(x):\n    return numpy.float64(x) / 2",
        "class Half:\n    def __call__(self, x):\n        return x / 2\nhalve = Half()",
        "from functools import lru_cache\n@lru_cache\ndef halve(x):\n    return x / 2",
    ],
)
def test_right(tmp_path: Path, source: str) -> None:
    assert PLUS.score(only(PLUS, tmp_path, ROW), f"```python\n{source}\n```")


@pytest.mark.parametrize(
    "source",
    [
        "def halve(x):\n    return x / 2 + 1e-3",
        "def halve(x):\n    return int(x) / 2",
        "def halve(x):\n    return x // 2",
        "def halve(x):\n    return None",
        "def halve(x):\n    return [x / 2, 0]",
        "def halve(x, y):\n    return x / 2",
        "import numpy\nnumpy.allclose = lambda *_, **__: True\ndef halve(x):\n    return x // 2 if x != 1 else 'x'"
        "\n\nimport sys\nsys.exit()",
        "def halve(x):\n    return x / 2 if x < 3 else exit(0)",
        "class Sly(float):\n    def __eq__(self, other): raise ValueError\n    __ne__ = __eq__\nhalve = Sly",
    ],
)
def test_wrong(tmp_path: Path, source: str) -> None:
    assert not PLUS.score(only(PLUS, tmp_path, ROW), f"```python\n{source}\n```")


RELEASE = {key: value for key, value in ROW.items() if key != "test"} | {
    "base_input": [[1.0], [3.0]],
    "plus_input": [[1e300], [-0.2]],
    "atol": 0,
}


@pytest.mark.parametrize(
    ("source", "right"),
    [
        ("def halve(x):\n    return x / 2", True),
        ("def halve(x):\n    return x * 0.5 + 1e-9", True),
        ("def halve(x):\n    return x / 2 + 1e-3", False),
        ("def halve(x):\n    return x // 2", False),
        ("def halve(x):\n    return [x / 2]", False),
        ("from fractions import Fraction\ndef halve(x):\n    return Fraction(x) / 2 + Fraction(1, 10**9)", False),
    ],
)
def test_a_row_of_the_release_is_compared_as_evalplus_does(tmp_path: Path, source: str, right: bool) -> None:
    question = only(PLUS, tmp_path, RELEASE)
    assert PLUS.score(question, question.reference)
    assert PLUS.score(question, f"```python\n{source}\n```") is right


def test_a_function_may_change_its_input_and_a_zero_is_any_zero(tmp_path: Path) -> None:
    prompt = 'def find_zero(xs: list):\n    """A zero of xs[0] + xs[1] * x + ...\n    """\n'
    row = {
        **RELEASE,
        "prompt": prompt,
        "entry_point": "find_zero",
        "canonical_solution": "    return 1.0\n",
        "base_input": [[[-1, 0, 1]]],
        "plus_input": [[[-4, 0, 4]]],
        "atol": 1e-4,
    }
    question = only(PLUS, tmp_path, row)
    assert PLUS.score(question, "```python\ndef find_zero(xs):\n    xs.clear()\n    return -1.0\n```")
    assert not PLUS.score(question, "```python\ndef find_zero(xs):\n    return 0.5\n```")


@pytest.mark.parametrize("wrong", [{"plus_input": [1]}, {"atol": "much"}, {"plus_input": [], "base_input": []}])
def test_inputs_of_another_form_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(DataError, match="Row 1 of rows has no"):
        PLUS.load(write(tmp_path, {**RELEASE, **wrong}))


@pytest.mark.parametrize("column", ["prompt", "entry_point", "test", "task_id"])
def test_a_row_of_another_form_is_refused(tmp_path: Path, column: str) -> None:
    with pytest.raises(DataError, match=f'has no text under "{column}"'):
        PLUS.load(write(tmp_path, {**ROW, column: None}))


def test_loaded(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has none of HumanEvalPlus\*"):
        PLUS.load(tmp_path)
    question = only(PLUS, tmp_path, ROW)
    assert question.id == "humaneval_plus/HumanEval/9"
    assert PLUS.score(question, question.reference)
    with pytest.raises(DataError, match=r"HumanEval\+ is not on this machine: give HumanEvalPlus.jsonl.gz"):
        PLUS.load()
