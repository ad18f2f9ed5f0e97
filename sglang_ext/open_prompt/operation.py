"""The operation on an open prompt that a request carries."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from sglang_ext.upstream.request import Request

CUSTOM_PARAM = "open_prompt"  # key in `sampling_params.custom_params`
Kind = Literal["append", "final", "close"]
_ID = re.compile(r"[A-Za-z0-9._:-]{8,128}")


class InvalidOperation(ValueError):
    """The operation cannot be done; the client gets the message, one sentence, with status 400."""


@dataclass(frozen=True)
class Operation:
    """One operation on one open prompt.

    Attributes:
        id: The client's name for the prompt, unique and hard to guess.
        op: What to do.
        at: How many tokens of the prompt are kept; the request's `input_ids` follow them.
    """

    id: str
    op: Kind
    at: int = 0

    @classmethod
    def from_json(cls, value: object) -> "Operation":
        """Parse what the client sent; raises `InvalidOperation`."""
        if not isinstance(value, dict) or not {"id", "op"} <= value.keys() <= {"id", "op", "at"}:
            raise InvalidOperation("`open_prompt` must be an object with `id`, `op` and, if tokens come before, `at`.")
        name, op, at = value["id"], value["op"], value.get("at", 0)
        if not isinstance(name, str) or not _ID.fullmatch(name):
            raise InvalidOperation("`open_prompt.id` must be 8 to 128 letters, digits or any of ._:- .")
        if op not in get_args(Kind):
            raise InvalidOperation(f"`open_prompt.op` is {op!r}, but must be one of {', '.join(get_args(Kind))}.")
        if type(at) is not int or at < 0:
            raise InvalidOperation(f"`open_prompt.at` is {at!r}, but must be a whole number of tokens from 0 up.")
        return cls(name, op, at)


def operation_of(req: Request) -> Operation | None:
    """Return a scheduled request's operation; None for a request of no open prompt.

    `requests.receive_operation` has replaced the JSON in the request's own `custom_params` with the checked
    `Operation`, which so exists exactly as long as the request.
    """
    custom = req.sampling_params.custom_params
    operation = custom.get(CUSTOM_PARAM) if isinstance(custom, dict) else None
    return operation if isinstance(operation, Operation) else None


def is_segment(req: Request) -> bool:
    """Whether a scheduled request is a segment: it is prefilled and generates nothing."""
    operation = operation_of(req)
    return operation is not None and operation.op == "append"
