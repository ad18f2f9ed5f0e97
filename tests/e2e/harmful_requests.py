"""Requests that may end a server, as strategies: every sampling field at its edges, small grammars and schemas.

`requests` draws a path and a body without a model. Answers are a few tokens long.
"""

import json
from typing import Any

from hypothesis import strategies as st

EDGES = [0, 1, -1, 2, -2, 5, 16, 127, 128, 49151, 49152, 10**6, 10**9, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53]
EDGES += [2**63 - 1, 2**63, -(2**63), 2**64, 10**30]
FRACTIONS = [0.0, -0.0, 0.5, 1.5, -1.5, 1e-3, 1e-6, 1e-7, 1e-38, 1e-40, 5e-324, 1e4, 1e6, 1e38, 1e39, -1e39, 1e308]
ODD = [None, True, False, "", "x", "1", [], {}, [1], {"a": 1}, "\u0000", "\ud7ff", "🦊"]
numbers = st.sampled_from(EDGES) | st.sampled_from(FRACTIONS)
anything = numbers | st.sampled_from(ODD)
listed = anything | st.lists(anything, max_size=2)
text = st.text("ab \n\u0000é🦊", max_size=4)

characters = st.sampled_from(["a", "b", ".", r"\s", r"\S", r"\d", "[ab]", "[^a]", r"[^\s\S]", "é", "^", "$", "(", "\\"])
patterns = st.recursive(
    characters,
    lambda inner: (
        st.tuples(inner, inner).map("".join)
        | st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})")
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{0}", "{2}", "{3,1}", "{0,9}", "{1000}", "{99999}"])).map(
            lambda two: f"({two[0]}){two[1]}"
        )
    ),
    max_leaves=6,
)
items = st.sampled_from(['"a"', '"b"', '""', "[a-c]", "[^a]", "[]", "root", "one", "two", "none"])
bodies = st.recursive(
    items,
    lambda inner: (
        st.tuples(inner, inner).map(" ".join)
        | st.tuples(inner, inner).map(" | ".join)
        | st.tuples(inner, st.sampled_from(["*", "+", "?", "{0}", "{2,3}"])).map(lambda two: f"({two[0]}){two[1]}")
    ),
    max_leaves=5,
)
grammars = st.builds(lambda a, b, c: f"root ::= {a}\none ::= {b}\ntwo ::= {c}", bodies, bodies, bodies) | text
schemas = st.recursive(
    st.sampled_from([True, False, {}, {"type": "string"}, {"type": "null"}, {"enum": []}, {"enum": ["a", 1]}])
    | st.sampled_from([{"$ref": "#"}, {"$ref": "#/properties/a"}, {"$ref": "#/nowhere"}, {"$ref": 5}, {"const": 1e300}])
    | st.builds(lambda low, high: {"type": "integer", "minimum": low, "maximum": high}, numbers, numbers)
    | st.builds(lambda low, high: {"type": "string", "minLength": low, "maxLength": high}, numbers, numbers)
    | patterns.map(lambda pattern: {"type": "string", "pattern": pattern}),
    lambda inner: (
        st.lists(inner, max_size=2).flatmap(
            lambda all_: st.sampled_from(["anyOf", "allOf", "oneOf"]).map(lambda name: {name: all_})
        )
        | st.builds(lambda a: {"type": "object", "properties": {"a": a}, "required": ["a"]}, inner)
        | st.builds(lambda a, count: {"type": "array", "items": a, "minItems": count}, inner, numbers)
        | inner.map(lambda a: {"not": a})
    ),
    max_leaves=4,
)
ids = st.lists(st.sampled_from(EDGES), max_size=3) | anything
biases = st.dictionaries(st.sampled_from(EDGES).map(str) | st.sampled_from(["x", "", "1.5"]), numbers, max_size=3)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "temperature": anything,
    "top_p": anything,
    "top_k": anything,
    "min_p": anything,
    "frequency_penalty": anything,
    "presence_penalty": anything,
    "repetition_penalty": anything,
    "stop": st.lists(text, max_size=3) | anything,
    "stop_regex": patterns | st.lists(patterns, max_size=2) | anything,
    "stop_token_ids": ids,
    "logit_bias": biases | anything,
    "ignore_eos": anything,
    "skip_special_tokens": anything,
    "no_stop_trim": anything,
    "json_schema": schemas.map(json.dumps) | anything,
    "regex": patterns | anything,
    "ebnf": grammars | anything,
    "custom_params": anything,
}
NATIVE = FIELDS | {
    "min_new_tokens": anything,
    "sampling_seed": anything,
    "stream_interval": anything,
    "structural_tag": anything,
    "spaces_between_special_tokens": anything,
    "n": anything,
    "stop_strs": anything,
    "is_normalized": anything,
}
OPENAI = FIELDS | {
    "min_tokens": anything,
    "seed": anything,
    "n": anything,
    "response_format": schemas.map(lambda each: {"type": "json_schema", "json_schema": {"name": "x", "schema": each}}),
    "priority": anything,
}
embeddings = st.sampled_from([[[0.1]], [[0.1] * 576], [[[0.1] * 576]], [[1e39] * 576], [[]]]) | anything
AROUND = {  # beside the sampling parameters of /generate
    "return_logprob": listed,
    "logprob_start_len": listed,
    "top_logprobs_num": listed,
    "token_ids_logprob": ids,
    "priority": anything,
    "extra_key": listed,
    "return_hidden_states": listed,
    "return_sampling_mask": listed,
    "return_text_in_logprobs": anything,
    "return_flat_raw_top_logprobs": anything,
    "return_flat_raw_top_logprobs_b64": anything,
    "return_routed_experts": anything,
    "routed_experts_start_len": anything,
    "return_indexer_topk": anything,
    "return_entropy": anything,
    "return_prompt_token_ids": anything,
    "return_bytes": anything,
    "require_reasoning": anything,
    "max_thinking_tokens": anything,
    "session_id": anything,
    "conversation_id": anything,
    "routing_key": anything,
    "custom_labels": st.dictionaries(text, text, max_size=2) | anything,
    "custom_logit_processor": listed,
    "lora_path": listed,
    "lora_id": listed,
    "http_worker_ipc": anything,
    "external_trace_header": anything,
    "received_time": anything,
    "encoder_urls": listed,
    "input_embeds": embeddings,
    "image_data": listed,
    "audio_data": listed,
    "video_data": listed,
    "session_params": anything,
    "positional_embed_overrides": anything,
    "disagg_prefill_dp_rank": anything,
    "bootstrap_port": anything,
    "rid": listed,
    "modalities": listed,
    "mm_hashes": listed,
    "multi_item_delimiter_indices": listed,
    "log_metrics": anything,
    "background": anything,
    "no_logs": anything,
    "routed_dp_rank": anything,
    "decode_tp_size": listed,
    "bootstrap_room": anything,
    "bootstrap_host": anything,
}

flags = st.booleans() | anything
LOGPROBS = {  # what belongs together, mostly with values that are right
    "logprob_start_len": st.sampled_from([0, 1, 2, -1]) | listed,
    "top_logprobs_num": st.sampled_from([0, 1, 5, 128]) | listed,
    "token_ids_logprob": st.sampled_from([[0], [1, 2]]) | ids,
    "return_text_in_logprobs": flags,
    "return_flat_raw_top_logprobs": flags,
    "return_flat_raw_top_logprobs_b64": flags,
    "return_prompt_token_ids": flags,
    "return_entropy": flags,
}


def some(fields: dict[str, st.SearchStrategy[Any]], most: int = 3) -> st.SearchStrategy[dict[str, Any]]:
    """A few of the fields with values."""
    chosen = st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=most, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in names}))


tokens = st.sampled_from([1, 2, 4])
streams = st.sampled_from([{}, {"stream": True}])
native = st.builds(
    lambda sampling, extra, most, stream: (
        "/generate",
        {"input_ids": [1, 2, 3], **extra, **stream, "sampling_params": {"max_new_tokens": most, **sampling}},
    ),
    st.just({}) | some(NATIVE),
    st.just({}) | some(AROUND, 3) | some(LOGPROBS, 6).map(lambda asked: {"return_logprob": True, **asked}),
    tokens,
    streams,
)
batches = st.builds(
    lambda sampling, extra, most, stream: (
        "/generate",
        {"input_ids": [[1, 2, 3], [4]], **extra, **stream, "sampling_params": [{"max_new_tokens": most}, sampling]},
    ),
    st.just({"max_new_tokens": 2}) | some(NATIVE).map(lambda sampling: {"max_new_tokens": 2, **sampling}),
    some({name: st.tuples(values, values).map(list) | values for name, values in AROUND.items()}, 3),
    tokens,
    streams,
)
vectors = st.builds(
    lambda given, most, stream: (
        "/generate",
        {"input_embeds": given, **stream, "sampling_params": {"max_new_tokens": most}},
    ),
    embeddings,
    tokens,
    streams,
)
chat = st.builds(
    lambda extra, most, stream: (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": most, **stream, **extra},
    ),
    some(OPENAI),
    tokens,
    streams,
)
completions = st.builds(
    lambda extra, most, stream: ("/v1/completions", {"prompt": "Hi", "max_tokens": most, **stream, **extra}),
    some(OPENAI | {"echo": anything, "logprobs": anything}),
    tokens,
    streams,
)
requests: st.SearchStrategy[tuple[str, dict[str, Any]]] = native | batches | vectors | chat | completions
