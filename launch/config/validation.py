"""What is wrong with a config or inventory file, in one sentence."""

import difflib
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

_EXPECTED = {
    "bool": "true or false",
    "dict": "a mapping",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "model": "a mapping",
    "string": "text",
}


def first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The most useful problem of `error` as one clause that names its key by dotted path.

    Of a misspelt required key pydantic reports a missing and an unknown one; the unknown one is what the reader typed.
    """
    problems = error.errors()
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    location, kind, context = problem["loc"], problem["type"], problem.get("ctx", {})
    key = ".".join(map(str, location))
    subject = f"the key {key}" if key else "the file"
    if kind == "extra_forbidden":
        return f"{subject} is unknown{did_you_mean(str(location[-1]), _fields_at(model, location[:-1]))}"
    if kind == "missing":
        return f"{subject} is missing; add it"
    if kind == "value_error":
        return f"{subject} {context['error']}"
    if kind in ("greater_than_equal", "greater_than"):
        bound = f"at least {context['ge']}" if "ge" in context else f"more than {context['gt']}"
        return f"{subject} must be {bound}, not {problem['input']!r}"
    expected = _EXPECTED.get(kind.split("_")[0])
    if expected is not None and kind.split("_")[-1] in ("type", "parsing", "float"):
        return f"{subject} must be {expected}, not {problem['input']!r}"
    return f"{subject} is wrong: {problem['msg'][:1].lower()}{problem['msg'][1:]}"


def did_you_mean(word: str, allowed: list[str]) -> str:
    """`, did you mean X; allowed are A, B`: the end of a sentence about an unknown word."""
    close = difflib.get_close_matches(word, allowed, n=1)
    guess = f", did you mean {close[0]}" if close else ""
    return f"{guess}; allowed are {', '.join(allowed)}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the mapping at `location` may have."""
    for step in location:
        if isinstance(step, str) and step in model.model_fields:
            model = next(_models_in(model.model_fields[step].annotation), model)
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from _models_in(part)
