"""JSON schemas of request bodies: the fields that the router itself reads. Workers check the others."""

from typing import Any, get_args

from msgspec.json import schema_components

from router.early_exit import ExitRule
from router.moa.tree import Arm
from router.request_checks.refused_fields import HARMFUL_FIELDS, RESERVED_FIELDS
from router.speculative_prefill.composition import AnswerOrder
from router.speculative_prefill.template import AGENT_NAME

Schema = dict[str, Any]

STRING: Schema = {"type": ["string", "null"]}
BOOLEAN: Schema = {"type": ["boolean", "null"]}
TOKEN_IDS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}
PROMPT: Schema = {"anyOf": [STRING, {"type": "array", "items": {"anyOf": [{"type": "string"}, TOKEN_IDS]}}, TOKEN_IDS]}


def _body(**fields: Schema) -> Schema:
    """An object with these fields, and without the fields that a client may not send."""
    forbidden = {name: {"type": "null"} for name in (*RESERVED_FIELDS, *HARMFUL_FIELDS)}
    return {"type": "object", "properties": {"model": STRING, **fields, **forbidden}}


def _generation(**fields: Schema) -> Schema:
    name = {"type": "string", "pattern": f"^{AGENT_NAME}$"}
    run: dict[str, Schema] = {"run": name, "agent": name, "order": {"enum": list(get_args(AnswerOrder))}}
    rid = {"anyOf": [STRING, {"type": "array", "items": {"type": "string"}}]}
    return _body(**fields, stream=BOOLEAN, rid=rid, **run)


def _openai(**fields: Schema) -> Schema:
    options = {"type": ["object", "null"], "properties": {"include_usage": BOOLEAN}}
    count = {"type": ["integer", "null"], "minimum": 1}
    return _generation(**fields, n=count, max_tokens=count, stream_options=options, moa=_moa())


def _moa() -> Schema:
    """`moa` of a request to a tree: what it changes of the tree."""
    fields = {
        "arm": {"enum": list(get_args(Arm))},
        "order": {"enum": list(get_args(AnswerOrder))},
        "exit": schema_components([ExitRule])[1]["ExitRule"],
        "seed": {"type": "integer", "minimum": 0},
        "sampling": {"type": ["object", "null"], "additionalProperties": {"type": "object"}},
    }
    return {"type": ["object", "null"], "additionalProperties": False, "properties": fields}


_SAMPLING: Schema = {"type": ["object", "null"], "properties": {"n": {"type": ["integer", "null"], "minimum": 1}}}
_PROMPT_IDS: Schema = {"anyOf": [{"type": "null"}, TOKEN_IDS, {"type": "array", "items": TOKEN_IDS}]}
_MESSAGE: Schema = {"type": "object", "properties": {"role": {"type": "string"}, "content": STRING}}
_MESSAGES: Schema = {"type": "array", "items": _MESSAGE}

_NO_RUN: Schema = {"type": "null"}
RERANK = _body(query=STRING, documents={"type": "array", "items": {"type": "string"}}, run=_NO_RUN)
INPUT = _body(input=PROMPT, run=_NO_RUN)
EMBED = _body(text=PROMPT, input_ids=_PROMPT_IDS, embed_overrides={"type": "null"}, run=_NO_RUN)
SCORE = _body(query=PROMPT, items=PROMPT, run=_NO_RUN)
MESSAGES = _body(messages=_MESSAGES, max_tokens={"type": "integer", "minimum": 1}, stream=BOOLEAN, run=_NO_RUN)
RESPONSES = _body(
    input={"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
    stream=BOOLEAN,
    previous_response_id=STRING,
    request_id={"type": "null"},
    conversation={"type": "null"},
    run=_NO_RUN,
)
TOKENIZE = _body(prompt=PROMPT, messages=_MESSAGES, run=_NO_RUN)
DETOKENIZE = _body(tokens=_PROMPT_IDS, run=_NO_RUN)
REASONING: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["text", "reasoning_parser"],
    "properties": {"model": STRING, "text": {"type": "string"}, "reasoning_parser": {"type": "string"}},
}
FUNCTION_CALL: Schema = {
    "type": "object",
    "additionalProperties": False,
    "required": ["text", "tool_call_parser"],
    "properties": {
        "model": STRING,
        "text": {"type": "string"},
        "tool_call_parser": {"type": "string"},
        "tools": {"type": ["array", "null"], "items": {"type": "object"}},
    },
}
GENERATE = _generation(
    text=PROMPT,
    input_ids=_PROMPT_IDS,
    sampling_params=_SAMPLING,
)
CHAT = _openai(messages=_MESSAGES)
COMPLETION = _openai(prompt=PROMPT)
