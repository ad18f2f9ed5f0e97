"""Each value of a rich request is replaced by odd ones, one at a time: the router may refuse them, and never fails.

The workers are fakes that answer whatever they are asked.
"""

import asyncio
import copy
import functools
import operator
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.router.endpoints.test_common_fields import CHAT, COMPLETIONS, GENERATE
from tests.router.endpoints.test_fuzz import Willing
from tests.router.moa.test_tree_runs import Agents
from tests.router.support.aio import run
from tests.router.support.plain import PlainServer
from tests.router.support.serving import Serving, serving

ODD: list[Any] = [None, True, {}, {"a": [{}]}, [], [[]], "x", 10**30]
LEFT_OUT = object()
AT_ONCE = 50  # requests

SCHEMA = {"type": "object", "properties": {"a": {"enum": ["x"]}}, "required": ["a"], "anyOf": [{"$ref": "#/$defs/b"}]}
CHAT_BODY: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief.", "name": "boss"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "assistant", "content": "yes", "tool_calls": [{"id": "1", "function": {"name": "f"}}]},
        {"role": "tool", "content": "42", "tool_call_id": "1"},
        {"role": "user", "content": "and?"},
    ],
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
    "stream": True,
    "stream_options": {"include_usage": True},
    "stop": ["a", "b"],
    "logit_bias": {"5": 1.0},
    "logprobs": True,
    "top_logprobs": 2,
    "n": 1,
    "max_tokens": 4,
    "max_completion_tokens": 4,
    "temperature": 0.5,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "chat_template_kwargs": {"enable_thinking": False},
    "service_tier": "auto",
    "prompt_cache_key": "k",
    "nvext": {"agent_hints": {"priority": 1, "osl": 10}},
    "user": "me",
    "metadata": {"a": "b"},
    "rid": "r",
    "priority": 1,
}
COMPLETIONS_BODY: dict[str, Any] = {
    "prompt": ["hi", "ho"],
    "echo": False,
    "logprobs": 1,
    "stream_options": {"include_usage": True},
    "stop": "a",
    "logit_bias": {"5": 1.0},
    "max_tokens": 4,
    "n": 1,
    "rid": ["a", "b"],
    "regex": "a*",
}
BATCH_BODY: dict[str, Any] = {
    "input_ids": [[1, 2], [3]],
    "sampling_params": [{"max_new_tokens": 2, "stop": ["a"], "logit_bias": {"5": 1}}, {"n": 1, "ebnf": 'root ::= "a"'}],
    "return_logprob": [True, True],
    "logprob_start_len": [0, -1],
    "top_logprobs_num": [1, 1],
    "token_ids_logprob": [[1], [2]],
    "rid": ["a", "b"],
    "stream": False,
    "custom_params": {"a": 1},
    "priority": 1,
    "bootstrap_room": None,
    "routed_dp_rank": None,
}
SINGLE_BODY: dict[str, Any] = {
    "text": "hi",
    "sampling_params": {"max_new_tokens": 2, "json_schema": '{"type": "object"}', "stop_token_ids": [1], "n": 1},
    "return_logprob": True,
    "logprob_start_len": 0,
    "token_ids_logprob": [1],
    "stream": True,
    "return_text_in_logprobs": True,
}
TREE_BODY: dict[str, Any] = {
    "model": "moa",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "hi"}, "ho"]},
        {"role": "assistant", "content": "yes", "reasoning_content": "well"},
        {"role": "user", "content": "and?"},
    ],
    "moa": {
        "arm": "tree",
        "order": "declared",
        "seed": 1,
        "exit": {"rule": "dmv", "least": 2},
        "sampling": {"final": {"max_tokens": 4, "stop": ["a"]}},
    },
    "stream": True,
    "stream_options": {"include_usage": True},
    "response_format": {"type": "text"},
    "tool_choice": "none",
    "stop": ["a"],
    "logit_bias": {"5": 1.0},
    "n": 1,
    "max_tokens": 4,
    "temperature": 0.5,
    "chat_template_kwargs": {"enable_thinking": False},
    "reasoning_effort": "low",
    "service_tier": "auto",
    "prompt_cache_key": "k",
    "nvext": {"agent_hints": {"osl": 10}},
    "user": "me",
    "metadata": {"a": "b"},
    "modalities": ["text"],
}
RUN_BODY: dict[str, Any] = {
    "model": "fake",
    "run": "r",
    "order": "declared",
    "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
    "stream": True,
    "stream_options": {"include_usage": True},
    "stop": "a",
    "logit_bias": {"5": 1.0},
    "max_tokens": 4,
    "seed": 5,
    "nvext": {"agent_hints": {"osl": 10}},
}
NATIVE_RUN_BODY: dict[str, Any] = {
    "model": "fake",
    "run": "r",
    "input_ids": [1, 2],
    "sampling_params": {"max_new_tokens": 2, "stop": ["a"], "n": 1, "ebnf": 'root ::= "a"'},
    "return_logprob": True,
    "logprob_start_len": -1,
    "routing_key": "a",
}
PAIR, PLAIN = {"model": "fake"}, {"model": "other"}
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": (CHAT, PAIR | CHAT_BODY),
    "completions": (COMPLETIONS, PAIR | COMPLETIONS_BODY),
    "a batch": (GENERATE, PAIR | BATCH_BODY),
    "a generation": (GENERATE, PAIR | SINGLE_BODY),
    "chat of a plain server": (CHAT, PLAIN | CHAT_BODY),
    "completions of a plain server": (COMPLETIONS, PLAIN | COMPLETIONS_BODY),
    "a batch of a plain server": (GENERATE, PLAIN | BATCH_BODY),
    "a generation of a plain server": (GENERATE, PLAIN | SINGLE_BODY),
    "a tree": (CHAT, TREE_BODY),
    "chat of a run": (CHAT, RUN_BODY),
    "a generation of a run": (GENERATE, NATIVE_RUN_BODY),
}


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each value in a body."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def variants(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The body with one value replaced, for each value and each odd one; and with it left out."""
    for *outer, last in places(body):
        for odd in [*ODD, LEFT_OUT]:
            changed = copy.deepcopy(body)
            parent: Any = functools.reduce(operator.getitem, outer, changed)
            if odd is LEFT_OUT:
                del parent[last]
            else:
                parent[last] = odd
            yield changed


async def statuses(router: Serving, path: str, bodies: list[dict[str, Any]]) -> Counter[int]:
    """What they are answered with; none with 500."""
    found: Counter[int] = Counter()
    for first in range(0, len(bodies), AT_ONCE):
        some = bodies[first : first + AT_ONCE]
        for body, answer in zip(some, await asyncio.gather(*(router.post(path, body) for body in some)), strict=True):
            assert answer.status_code != 500, (body, answer.text)
            assert "the router failed" not in answer.text, (body, answer.text)
            found[answer.status_code] += 1
    return found


@pytest.mark.parametrize("kind", REQUESTS)
def test_an_odd_value_is_no_failure_of_the_router(kind: str) -> None:
    path, body = REQUESTS[kind]

    async def test() -> None:
        plain = PlainServer("other")
        plain.answer = plain.help = lambda call: call.answer({"text": "one", "choices": [{"index": 0, "text": "one"}]})
        pair = Agents().pair if kind == "a tree" else Willing()
        async with plain, serving(pair, plain=(plain.url,)) as router:
            right = await router.post(path, body)
            assert right.status_code == 200, right.text
            # What plain servers get is checked by the same functions. A place has nine variants, so all come in turn.
            every = 4 if kind.endswith("of a plain server") else 1
            print(await statuses(router, path, [*variants(body)][::every]))

    run(test)
