"""Regular expressions of clients: those that are none, and those whose search could take for ever, are refused.

The scheduler searches for `stop_regex` after each token, in the same thread that serves everybody's requests.
"""

import re
from re import _constants as ops
from re import _parser as parser
from typing import Any

MAX_LENGTH = 1000  # characters
MAX_REPEATS = 1000  # of one part, and the scheduler keeps text of that length
MAX_OPEN_REPEATS = 3  # the time to search grows with their number as its power
REPEATS = {ops.MAX_REPEAT, ops.MIN_REPEAT}


def check_pattern(name: str, pattern: str) -> None:
    """Check a pattern of the field `name`.

    Raises:
        ValueError: It is no regular expression, is too long, refers back to a group, repeats what itself repeats or has
            alternatives, or has many repetitions: searching for those can take time exponential in the text.
    """
    if len(pattern) > MAX_LENGTH:
        raise ValueError(f"`{name}` must have at most {MAX_LENGTH} characters a pattern, got {len(pattern)}.")
    try:
        re.compile(pattern)
        parts = parser.parse(pattern)
        problem = _problem(parts, repeated=False)
        if problem is None and _open_repeats(parts) > MAX_OPEN_REPEATS:
            problem = f"has more than {MAX_OPEN_REPEATS} repetitions without a limit"
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"`{name}` holds {pattern[:80]!r}, which is no regular expression: {error}.") from None
    if problem is not None:
        raise ValueError(f"`{name}` holds {pattern[:80]!r}, which {problem}; write it without.")


def _problem(parts: Any, *, repeated: bool) -> str | None:
    """Why a parsed pattern may take too long, or None; `repeated` tells whether it stands inside a repetition."""
    for operation, value in parts:
        if operation in {ops.GROUPREF, ops.GROUPREF_EXISTS}:
            return "refers back to a group"
        inside = repeated
        if operation in REPEATS:
            least, most, _ = value
            if most != ops.MAXREPEAT and most > MAX_REPEATS:
                return f"repeats a part more than {MAX_REPEATS} times"
            if repeated and most > least:
                return "repeats a part that itself repeats"
            inside = repeated or most > 1
        if operation is ops.BRANCH and repeated:
            return "repeats alternatives"
        for inner in _subpatterns(value):
            if (problem := _problem(inner, repeated=inside)) is not None:
                return problem
    return None


def _open_repeats(parts: Any) -> int:
    """How many repetitions have no limit, or one so high that it hardly is one."""
    count = 0
    for operation, value in parts:
        count += operation in REPEATS and (value[1] == ops.MAXREPEAT or value[1] > 100)
        count += sum(_open_repeats(inner) for inner in _subpatterns(value))
    return count


def _subpatterns(value: Any) -> list[Any]:
    """The patterns inside one operation's value."""
    if isinstance(value, parser.SubPattern):
        return [value]
    if isinstance(value, list | tuple):
        return [found for each in value for found in _subpatterns(each)]
    return []
