"""Answers that are a Python function: HumanEval, HumanEval+. They are run in the sandbox with the tests."""

import re

from launch.experiment.benchmarks.benchmark import Question
from launch.experiment.benchmarks.data import Row
from launch.experiment.benchmarks.sandbox import Limits, require, run_code

LIMITS = Limits(cpu_s=20, wall_s=120.0, memory_mb=2048)
_MAX_CODE = 200_000  # characters
_FENCE = re.compile(r"^(?P<indent> {0,3})(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[^\s`]*)[^\n]*$", re.MULTILINE)
_LANGUAGES = ("", "python", "py", "python3", "{.python}")
_CODE_LINE = re.compile(r"^(?:def |class |import |from |@|async def |[ \t]+\S)", re.MULTILINE)

PROMPT = (
    "Write the whole Python function below, with its imports. Answer with one block of code between ```python and"
    " ``` that defines it, without examples or tests.\n\n```python\n{}\n```"
)


def sandbox_is_there() -> None:
    """Raises `SandboxError` where the sandbox is too weak for a model's code."""
    require()


def code_question(row: Row) -> Question:
    """A row of HumanEval's form as a question."""
    prompt, name, test = row.text("prompt"), row.text("entry_point"), row.text("test")
    if not re.search(rf"^def {re.escape(name)}\b", prompt, re.MULTILINE):
        row.fail(f'has a prompt without "def {name}"')
    if "def check(" not in test:
        row.fail('has a test without "def check"')
    prompt = _raw(row, "prompt")
    solution = _raw(row, "canonical_solution")
    reference = f"```python\n{prompt}{solution}\n```" if solution else ""
    detail = {"prompt": prompt, "entry_point": name, "test": test}
    return Question(
        row.text("task_id"), PROMPT.format(prompt.strip("\n")), solution, reference=reference, detail=detail
    )


def _raw(row: Row, column: str) -> str:
    """A text with the white space around it, which in Python has a meaning."""
    found = row.get(column)
    return found if isinstance(found, str) else ""


def blocks(text: str) -> list[str]:
    """The contents of a text's blocks of Python, in order; one that nothing closes goes to the end."""
    found: list[str] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(text):
        if opened is None:
            opened = fence
        elif fence["fence"].startswith(opened["fence"]) and not fence["language"]:
            found += _block(opened, text[opened.end() + 1 : fence.start()])
            opened = None
    if opened is not None:
        found += _block(opened, text[opened.end() + 1 :])
    return found


def _block(opened: re.Match[str], content: str) -> list[str]:
    if opened["language"].lower() not in _LANGUAGES:
        return []
    if indent := opened["indent"]:
        content = re.sub(f"^{indent}", "", content, flags=re.MULTILINE)
    return [content]


def find_code(text: str, entry_point: str = "") -> str | None:
    """The code that a text gives.

    That is the last block of Python that defines `entry_point` (without a name: any function), else the last block;
    in a text without blocks all of it, if it looks like code.
    """
    found = blocks(text)
    if not found:
        return text if _CODE_LINE.search(text) else None
    defines = re.compile(rf"^(?:async )?def {re.escape(entry_point) + '[ (]' if entry_point else ''}", re.MULTILINE)
    return next((each for each in reversed(found) if defines.search(each)), found[-1])


def passes(question: Question, text: str) -> bool:
    """Whether the code of a text passes the question's tests; see `programs` for what is run."""
    code = find_code(text, question.detail["entry_point"])
    if code is None or len(code) > _MAX_CODE or "\0" in code:
        return False
    return run_code(programs(question, code), LIMITS).passed


def programs(question: Question, code: str) -> list[str]:
    """The sources that are run: what the prompt has before the function, the code, the tests and their call.

    Code that does not define the function continues the prompt, as completions do. The sources are compiled one by one,
    so that code may begin with imports from `__future__`.
    """
    prompt, name = question.detail["prompt"], question.detail["entry_point"]
    check = [question.detail["test"], f"check({name})"]
    defined = re.search(rf"^(?:async )?def {re.escape(name)}\b|^{re.escape(name)} *=", code, re.MULTILINE)
    if defined is None:
        return [prompt + code, *check]
    start = re.search(rf"^def {re.escape(name)}\b", prompt, re.MULTILINE)
    return [prompt[: start.start()] if start else "", code, *check]
