"""What agents are told."""

from collections.abc import Sequence
from typing import Any

from router.moa.prompt_draft import Messages

PROPOSER = "Answer the user's question correctly and to the point. Give your reasons in a few sentences."
AGGREGATOR = (
    "Answer the user's question. The user gives you notes by other assistants, and some of them may be wrong. "
    "Weigh them, keep what is right, correct what is not, and write one better answer in your own words."
)


def proposer_messages(role: str | None, question: Messages) -> Messages:
    """The client's conversation under the agent's role; the client's own system prompt is kept."""
    return _under(role or PROPOSER, question)


def aggregator_messages(role: str | None, question: Messages, answers: Sequence[str]) -> Messages:
    """The conversation with the upstream answers, or their places, before its last message.

    The question stands last and the answers have no headings: small models that see either go on
    listing answers.
    """
    listed = "\n\n".join(f"- {answer}" for answer in answers)
    *before, last = question
    asked = f"Notes by other assistants:\n\n{listed}\n\nUse what is right in these notes. {_text(last)}"
    return _under(role or AGGREGATOR, [*before, {**last, "content": asked}])


def _under(role: str, messages: Messages) -> Messages:
    if messages[0].get("role") == "system":
        first = {"role": "system", "content": f"{_text(messages[0])}\n\n{role}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": role}, *messages]


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")


def question_text(question: Messages | list[int]) -> str:
    """What a run was asked, in words."""
    last = question[-1]
    return _text(last) if isinstance(last, dict) else f"{len(question)} token ids"
