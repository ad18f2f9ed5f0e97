"""Asks a tree one question."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from launch.errors import ConfigError
from launch.supervision.server_client import get_json
from router.http_client.origin import Origin

POLL_SECONDS = 1.0


def parse_question(text: str, *, tokenizer: bool) -> dict[str, Any]:
    """The question of `--ask` as fields of a chat request: messages, or `input_ids` for a JSON list of token ids.

    Raises:
        ConfigError: Text for models that run without a tokenizer, or an empty question.
    """
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, list):
        if not value or not all(type(token) is int and token >= 0 for token in value):
            raise ConfigError("--ask got a JSON list, but not one of token ids; give at least one integer from 0 up.")
        return {"input_ids": value}
    if not tokenizer:
        raise ConfigError("models with dummy weights run without a tokenizer; give --ask a JSON list of token ids.")
    if not text.strip():
        raise ConfigError("the question is empty; give --ask some text.")
    return {"messages": [{"role": "user", "content": text}]}


async def ask(router: Origin, tree: str, question: dict[str, Any], check_alive: Callable[[], None]) -> dict[str, Any]:
    """The chat completion of a tree; `check_alive` is called every second and may raise to end the wait."""
    task = asyncio.create_task(get_json(router, "/v1/chat/completions", {"model": tree, **question}, timeout=None))
    try:
        while not (await asyncio.wait({task}, timeout=POLL_SECONDS))[0]:
            check_alive()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    answer: dict[str, Any] = task.result()
    return answer
