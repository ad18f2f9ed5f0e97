from pathlib import Path
from typing import Any

import pytest

from launch.experiment.benchmarks import BENCHMARKS, DataError, Question, SandboxError
from launch.experiment.benchmarks.reading.code import blocks, find_code
from launch.experiment.benchmarks.sandbox import run
from tests.launch.experiment.benchmarks.rows import only, write

HUMANEVAL = BENCHMARKS["humaneval"]
PROMPT = '''from typing import List


def helper(x: int) -> int:
    return x * 2


def double_all(numbers: List[int]) -> List[int]:
    """ Each of the numbers, doubled by helper.
    >>> double_all([1, 2])
    [2, 4]
    """
'''
BODY = "    return [helper(each) for each in numbers]\n"
ROW: dict[str, Any] = {
    "task_id": "HumanEval/7",
    "prompt": PROMPT,
    "entry_point": "double_all",
    "canonical_solution": BODY,
    "test": "\n\ndef check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n    assert candidate([]) == []\n",
}
FUNCTION = "def double_all(numbers: List[int]) -> List[int]:\n" + BODY


def fenced(source: str, language: str = "python", fence: str = "```") -> str:
    return f"Here it is:\n\n{fence}{language}\n{source}{fence}\n\nIt doubles each."


@pytest.mark.parametrize(
    "text",
    [
        fenced(PROMPT + BODY),
        fenced(FUNCTION),
        BODY,
        fenced(BODY),
        PROMPT + BODY,
        fenced(FUNCTION, "Python"),
        fenced(FUNCTION, ""),
        fenced(FUNCTION, "py", "~~~"),
        fenced(FUNCTION, "python", "````"),
        fenced(FUNCTION).removesuffix("```\n\nIt doubles each."),
        fenced(FUNCTION) + fenced("print(double_all([1]))\n"),
        fenced("pip install typing\n", "bash") + fenced(FUNCTION),
        fenced("def double_all(numbers): return numbers\n") + "No:\n" + fenced(FUNCTION),
        fenced("from __future__ import annotations\n" + FUNCTION),
        fenced("double_all = lambda numbers: [2 * each for each in numbers]\n"),
        fenced(FUNCTION + "\nif __name__ == '__main__':\n    raise SystemExit\n"),
        "1. First:\n\n   ```python\n" + "".join(f"   {line}\n" for line in FUNCTION.splitlines()) + "   ```\n",
        "<think>" + fenced("def double_all(n): return n\n") + "</think>" + fenced(FUNCTION),
        fenced(FUNCTION + "\nprint('x' * 1000000)\n"),
    ],
)
def test_right(tmp_path: Path, text: str) -> None:
    assert HUMANEVAL.score(only(HUMANEVAL, tmp_path, ROW), text)


@pytest.mark.parametrize(
    "text",
    [
        fenced("def double_all(numbers): return numbers\n"),
        fenced("def double_all(numbers): return [2, 4]\n"),
        fenced("def double(numbers): return [2 * each for each in numbers]\n"),
        fenced("def double_all(numbers): pass\nimport sys\nsys.exit(0)\n"),
        fenced("import os\nos._exit(0)\ndef double_all(numbers): pass\n"),
        fenced("def double_all(numbers):\n    import os\n    os._exit(0)\n"),
        fenced("def double_all(numbers)\n    return\n"),
        fenced("def double_all(numbers):\n    return 1 +\n"),
        fenced("def double_all(numbers): return '\ud83d'\n"),
        fenced("def check(candidate): pass\ndef double_all(numbers): pass\n"),
        fenced("def double_all(numbers): raise KeyboardInterrupt\n"),
        fenced(FUNCTION, "javascript"),
        fenced(FUNCTION + "#" * 300_000),
        "I cannot write that.",
        "",
        "<think>" + fenced(FUNCTION),
        "\0",
    ],
)
def test_wrong(tmp_path: Path, text: str) -> None:
    assert not HUMANEVAL.score(only(HUMANEVAL, tmp_path, ROW), text)


def test_blocks_end_with_a_fence_of_their_own() -> None:
    inner = "x = '''\n```text\n'''\n"
    assert blocks(f"````python\n{inner}````\n```\ny\n```") == [inner, "y\n"]
    assert find_code("No code at all.") is None
    assert find_code("```python\nx = 1\n```") == "x = 1\n"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"prompt": "def other():\n"}, 'has a prompt without "def double_all"'),
        ({"test": "assert True"}, 'has a test without "def check"'),
        ({"entry_point": None}, 'has no text under "entry_point"'),
        ({"task_id": ""}, 'has no text under "task_id"'),
    ],
)
def test_a_row_of_another_form_is_refused(tmp_path: Path, wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        HUMANEVAL.load(write(tmp_path, {**ROW, **wrong}))


def test_loaded(tmp_path: Path) -> None:
    question: Question = only(HUMANEVAL, tmp_path, ROW)
    assert question.id == "humaneval/HumanEval/7"
    assert PROMPT.strip() in question.prompt
    assert HUMANEVAL.score(question, question.reference)


def test_code_is_refused_before_the_first_question_where_the_sandbox_is_weak(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "isolation", lambda: run.Isolation.LIMITS)
    monkeypatch.delenv(run.ALLOW_LIMITS_ONLY, raising=False)
    with pytest.raises(SandboxError, match=f"{run.ALLOW_LIMITS_ONLY}=1"):
        HUMANEVAL.load(write(tmp_path, ROW))
    monkeypatch.setenv(run.ALLOW_LIMITS_ONLY, "1")
    question = only(HUMANEVAL, tmp_path, ROW)
    assert HUMANEVAL.score(question, question.reference)
    assert not HUMANEVAL.score(question, fenced("def double_all(numbers): return numbers\n"))


def test_the_data_set_of_the_package_is_read() -> None:
    questions = HUMANEVAL.load(limit=3)
    assert len(questions) == 3
    assert all(each.id.startswith("humaneval/HumanEval/") for each in questions)
    assert all(HUMANEVAL.score(each, each.reference) for each in questions)
