"""JSON schemas of the bodies that clients send: what the router itself looks at.

The rest is for the servers to judge, in their own words.
"""

from typing import Any, get_args

from msgspec.json import schema_components

from router.dispatch.pair_fields import HARMFUL_FIELDS, RESERVED_FIELDS
from router.early_exit import ExitRule
from router.moa.tree import Arm
from router.speculative_prefill.composition import AnswerOrder
from router.speculative_prefill.template import AGENT_NAME

Schema = dict[str, Any]

TEXT: Schema = {"type": ["string", "null"]}
SWITCH: Schema = {"type": ["boolean", "null"]}
IDS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0}}
PROMPT: Schema = {"anyOf": [TEXT, {"type": "array", "items": {"anyOf": [{"type": "string"}, IDS]}}, IDS]}


def _body(**fields: Schema) -> Schema:
    """An object with these fields; none of those that a client may not send."""
    barred = {name: {"type": "null"} for name in (*RESERVED_FIELDS, *HARMFUL_FIELDS)}
    return {"type": "object", "properties": {"model": TEXT, **fields, **barred}}


def _generation(**fields: Schema) -> Schema:
    name = {"type": "string", "pattern": f"^{AGENT_NAME}$"}
    run: dict[str, Schema] = {"run": name, "agent": name, "order": {"enum": list(get_args(AnswerOrder))}}
    rid = {"anyOf": [TEXT, {"type": "array", "items": {"type": "string"}}]}
    return _body(**fields, stream=SWITCH, rid=rid, **run)


def _openai(**fields: Schema) -> Schema:
    options = {"type": ["object", "null"], "properties": {"include_usage": SWITCH}}
    count = {"type": ["integer", "null"], "minimum": 1}
    return _generation(**fields, n=count, max_tokens=count, stream_options=options, moa=_moa())


def _moa() -> Schema:
    """What a request to a tree may change of it."""
    fields = {
        "arm": {"enum": list(get_args(Arm))},
        "order": {"enum": list(get_args(AnswerOrder))},
        "exit": schema_components([ExitRule])[1]["ExitRule"],
        "seed": {"type": "integer", "minimum": 0},
    }
    return {"type": ["object", "null"], "additionalProperties": False, "properties": fields}


_SAMPLING: Schema = {"type": ["object", "null"], "properties": {"n": {"type": ["integer", "null"], "minimum": 1}}}
_IDS_OF_ALL: Schema = {"anyOf": [{"type": "null"}, IDS, {"type": "array", "items": IDS}]}
_MESSAGE: Schema = {"type": "object", "properties": {"role": {"type": "string"}, "content": TEXT}}
_MESSAGES: Schema = {"type": "array", "items": _MESSAGE}

RERANK = _body(run={"type": "null"})
TOKENIZE = _body(prompt=PROMPT, messages=_MESSAGES)
DETOKENIZE = _body(tokens=_IDS_OF_ALL)
GENERATE = _generation(
    text=PROMPT,
    input_ids={"anyOf": [{"type": "null"}, IDS, {"type": "array", "items": IDS}]},
    sampling_params=_SAMPLING,
)
CHAT = _openai(messages=_MESSAGES)
COMPLETION = _openai(prompt=PROMPT)
