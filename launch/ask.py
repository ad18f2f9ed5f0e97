"""One question through the tree, and what it cost."""

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.table import Table

from launch.errors import ConfigError
from launch.readiness import get_json
from router.http_client.origin import Origin

POLL_SECONDS = 1.0


def parse_question(text: str, *, tokenizer: bool) -> dict[str, Any]:
    """The part of a chat request that asks: messages, or token ids given as a JSON list.

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


async def ask(router: Origin, tree: str, question: dict[str, Any], check: Callable[[], None]) -> dict[str, Any]:
    """Run the tree; `check` is called every second and may raise to end the wait."""
    task = asyncio.create_task(get_json(router, "/v1/chat/completions", {"model": tree, **question}, timeout=None))
    try:
        while not (await asyncio.wait({task}, timeout=POLL_SECONDS))[0]:
            check()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    answer: dict[str, Any] = task.result()
    return answer


def report(console: Console, answer: dict[str, Any], servers: list[str], *, began: float, peak_bytes: int) -> None:
    """Print the answer, the servers, a row an agent, and the launch's time and peak memory."""
    moa = answer["moa"]
    message = answer["choices"][0]["message"]
    console.rule("answer")
    if message.get("output_ids"):
        console.print(f"{len(message['output_ids'])} token ids: {message['output_ids'][:16]} ...", highlight=False)
    else:
        console.print(message["content"].strip(), highlight=False, markup=False)
    console.rule("agents")
    table = Table(box=None, pad_edge=False)
    for title in ("agent", "model", "prompt tokens", "output tokens", "start s", "first token s", "end s"):
        table.add_column(title, justify="left" if title in {"agent", "model"} else "right")
    for agent in moa["agents"]:
        times = (agent["start"], agent["first_token"], agent["end"])
        counts = (agent["prompt_tokens"], agent["completion_tokens"])
        shown = ["" if seconds is None else f"{seconds:.2f}" for seconds in times]
        table.add_row(agent["agent"], agent["model"], *map(str, counts), *shown)
    console.print(table)
    console.rule()
    console.print(f"servers: {', '.join(servers)}", highlight=False)
    usage = answer["usage"]
    console.print(
        f"the run took {moa['seconds']:.1f} s, {usage['prompt_tokens']} prompt and {usage['completion_tokens']} "
        f"output tokens; the whole command {time.monotonic() - began:.1f} s; "
        f"peak memory {peak_bytes / (1 << 30):.2f} GiB",
        highlight=False,
    )
