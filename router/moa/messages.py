"""Clients' messages as the agents of a tree or a run read them: text, joined where it comes in parts."""

from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest

Messages = list[dict[str, Any]]
TEXT_PARTS = ("text", "input_text")  # kinds; no set, since a client's kind may be an object, which has no hash


def read_messages(value: Any) -> Messages:
    """The messages of a request, each with one text as its content; a missing or null content is empty.

    Raises:
        BadRequest: They are no messages, or one has a part that is no text, such as an image.
    """
    if not isinstance(value, list) or not value or not all(isinstance(message, dict) for message in value):
        raise BadRequest("`messages` must be a list of at least one message object.")
    for message in value:
        if not isinstance(message.get("role"), str):
            raise BadRequest("each message must have a `role`, which is a text.")
        if message.get("tool_calls"):
            raise BadRequest("`messages` may have no `tool_calls` here: agents have no tools; ask a model by its name.")
    return [{**message, "content": _joined(message.get("content"))} for message in value]


def _joined(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadRequest("a message's `content` must be text, or a list of text parts.")
    return "\n".join(_text_of_part(part) for part in content)


def _text_of_part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") not in TEXT_PARTS:
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        raise BadRequest(
            f"a message has a part of the kind {str(kind)[:40]!r}; agents read text only: ask a model by its name."
        )
    text = part.get("text")
    if not isinstance(text, str):
        raise BadRequest("a text part of a message must have `text`, which is a text.")
    return text


def template_options(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What a request says to the chat template, in the fields that SGLang's chat API has for it.

    Raises:
        BadRequest: A value has the wrong type.
    """
    kwargs = fields.get("chat_template_kwargs")
    if kwargs is not None and not isinstance(kwargs, dict):
        raise BadRequest("`chat_template_kwargs` must be an object.")
    thinking = fields.get("enable_thinking")
    if thinking is not None:
        if not isinstance(thinking, bool):
            raise BadRequest("`enable_thinking` must be true or false.")
        kwargs = {"enable_thinking": thinking, **(kwargs or {})}
    options: dict[str, Any] = {"chat_template_kwargs": kwargs} if kwargs else {}
    effort = fields.get("reasoning_effort")
    if effort is not None:
        if isinstance(effort, bool) or not isinstance(effort, str | int | float):
            raise BadRequest("`reasoning_effort` must be a level such as low, or a number from 0 to 0.99.")
        options["reasoning_effort"] = effort
    reasoning = fields.get("reasoning")
    if reasoning is not None:
        if not isinstance(reasoning, dict):
            raise BadRequest("`reasoning` must be an object.")
        options["reasoning"] = reasoning
    return options
