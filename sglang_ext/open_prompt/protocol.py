"""What a request says about an open prompt."""

import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

KEY = "open_prompt"  # in `sampling_params.custom_params`
Operation = Literal["append", "final", "close"]
_ID = re.compile(r"[A-Za-z0-9._:-]{8,128}")


class Refused(ValueError):
    """The request does not fit; the message is the one sentence its sender gets, with status 400."""


@dataclass(frozen=True)
class Mark:
    """One operation on one open prompt.

    Attributes:
        id: The sender's name for the prompt, unique and not to be guessed.
        op: What to do.
        at: Tokens of the prompt that still hold; the request's `input_ids` follow them.
    """

    id: str
    op: Operation
    at: int = 0

    @classmethod
    def read(cls, told: object) -> "Mark":
        """From JSON; raises `Refused`."""
        if not isinstance(told, dict) or not {"id", "op"} <= told.keys() <= {"id", "op", "at"}:
            raise Refused("`open_prompt` must be an object with `id`, `op` and, if tokens come before, `at`.")
        name, op, at = told["id"], told["op"], told.get("at", 0)
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise Refused("`open_prompt.id` must be 8 to 128 letters, digits or any of ._:- .")
        if op not in get_args(Operation):
            raise Refused(f"`open_prompt.op` is {op!r}, but must be one of {', '.join(get_args(Operation))}.")
        if type(at) is not int or at < 0:
            raise Refused(f"`open_prompt.at` is {at!r}, but must be a whole number of tokens from 0 up.")
        return cls(name, op, at)


def mark_of(req: Any) -> Mark | None:
    """The mark that `requests.receive` left on a request of the scheduler; None for an ordinary one."""
    custom = req.sampling_params.custom_params
    mark = custom.get(KEY) if isinstance(custom, dict) else None
    return mark if isinstance(mark, Mark) else None


def is_segment(req: Any) -> bool:
    """Whether a request of the scheduler only prefills."""
    mark = mark_of(req)
    return mark is not None and mark.op == "append"
