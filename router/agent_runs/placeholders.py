"""The prompt of an agent's request: text, messages or token ids with `<|answer:NAME|>` placeholders."""

from collections.abc import Sequence
from typing import Any

from router.errors import BadRequest
from router.moa.messages import read_messages, template_options
from router.moa.prompt_draft import Content, PromptDraft
from router.speculative_prefill.template import PLACEHOLDER

PROMPT_FIELDS = ("messages", "prompt", "text", "input_ids")
MAX_PLACES = 10_000  # placeholders of one prompt


def read_prompt(body: dict[str, Any]) -> PromptDraft:
    """The prompt of a request and the agents that it reads; raises `BadRequest`."""
    prompts = [(key, body[key]) for key in PROMPT_FIELDS if body.get(key) is not None]
    if len(prompts) != 1:
        raise BadRequest(f"a request of a run has one prompt: one of {', '.join(f'`{key}`' for key in PROMPT_FIELDS)}.")
    key, content = prompts[0]
    if not content:
        raise BadRequest(f"`{key}` is empty; give a prompt.")
    if key == "messages":
        content = read_messages(content)
        names = [name for message in content for name in PLACEHOLDER.findall(message["content"])]
    elif isinstance(content, str):
        names = PLACEHOLDER.findall(content)
    else:
        names = _names_among_ids(content, key)
    options = template_options(body)
    if options and key != "messages":
        raise BadRequest(f"`{next(iter(options))}` is for chat templates, which are applied to `messages` only.")
    if len(names) > MAX_PLACES:
        raise BadRequest(f"the prompt has {len(names)} places for answers, and {MAX_PLACES} is the most.")
    return PromptDraft(tuple(names), lambda answers: _fill(content, answers), template_options=options)


def _names_among_ids(content: object, key: str) -> list[str]:
    """The agents of placeholders among token ids."""
    items = content if isinstance(content, list) else [None]
    matches = [PLACEHOLDER.fullmatch(item) if isinstance(item, str) else None for item in items]
    if any(match is None and type(item) is not int for match, item in zip(matches, items, strict=True)):
        raise BadRequest(f"`{key}` must be one text, or token ids with places like '<|answer:NAME|>' among them.")
    return [match[1] for match in matches if match is not None]


def _fill(content: Any, answers: Sequence[str]) -> Content:
    """The prompt with `answers` in its placeholders, in their order; a placeholder without an answer becomes empty."""
    remaining = iter(answers)

    def fill(text: str) -> str:
        return PLACEHOLDER.sub(lambda _: next(remaining, ""), text)

    if isinstance(content, str):
        return fill(content)
    if isinstance(content[0], dict):
        return [{**message, "content": fill(message["content"])} for message in content]
    return [fill(item) if isinstance(item, str) else item for item in content]
