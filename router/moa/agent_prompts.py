"""The prompts of agents: default system prompts, and how upstream answers stand in a conversation."""

from collections.abc import Sequence
from typing import Any

from router.moa.messages import Messages

PROPOSER = "Answer the user's question correctly and to the point. Give your reasons in a few sentences."
AGGREGATOR = (
    "Answer the user's question. The user gives you notes by other assistants, and some of them may be wrong. "
    "Weigh them, keep what is right, correct what is not, and write one better answer in your own words."
)


def proposer_messages(role: str | None, question: Messages) -> Messages:
    """The client's conversation with the agent's system prompt `role`; the client's own system prompt is kept."""
    return _with_system_prompt(role or PROPOSER, question)


def aggregator_messages(role: str | None, question: Messages, answers: Sequence[str]) -> Messages:
    """The conversation with the upstream answers, or their placeholders, in its last message, which is the user's.

    Where the last message is another's, the notes stand in a user's message of their own after it. The question
    stands last and the answers have no headings: small models that see either go on listing answers.
    """
    notes = "\n\n".join(f"- {answer}" for answer in answers)
    *before, last = question
    if last.get("role") != "user":
        content = f"Notes by other assistants:\n\n{notes}\n\nUse what is right in these notes."
        return _with_system_prompt(role or AGGREGATOR, [*question, {"role": "user", "content": content}])
    content = f"Notes by other assistants:\n\n{notes}\n\nUse what is right in these notes. {_text(last)}"
    return _with_system_prompt(role or AGGREGATOR, [*before, {**last, "content": content}])


def _with_system_prompt(role: str, messages: Messages) -> Messages:
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
    """A run's question as a trace shows it: the last message, or the number of token ids."""
    last = question[-1]
    return _text(last) if isinstance(last, dict) else f"{len(question)} token ids"
