"""What becomes of every field of a request to a tree, or to an agent of a client's run.

`OPENAI_FIELDS` covers the chat and completions APIs as SGLang has them, `NATIVE_FIELDS` covers `/generate`, and
`NATIVE_SAMPLING` its `sampling_params`. A field that no table has is refused: it would be dropped without a word.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from router.errors import BadRequest
from router.request_checks.refused_fields import HARMFUL_FIELDS

Use = Literal["final", "all", "router", "label"]
Path = Literal["tree", "run"]


@dataclass(frozen=True)
class FieldRule:
    """What becomes of one field.

    Attributes:
        tree: In a request to a tree: applied to the agent that answers the client (`final`), applied to all agents
            (`all`), read by the router itself (`router`), accepted although no answer depends on it (`label`), or
            None where it is refused.
        run: In a request of a client's run, which has one agent: the same.
        why: Why it is refused, and what to do instead; ends a sentence.
        neutral: Values that ask for nothing, taken where the field is refused, as are null, false, 0 and empty ones.
    """

    tree: Use | None
    run: Use | None
    why: str = ""
    neutral: tuple[Any, ...] = ()


def _applied(use: Use, names: Iterable[str]) -> dict[str, FieldRule]:
    return {name: FieldRule(use, use) for name in names}


def _refused(why: str, names: Iterable[str], *neutral: Any) -> dict[str, FieldRule]:
    return {name: FieldRule(None, None, why, neutral) for name in names}


_GRAMMAR = "agents answer in words; ask a model by its name, without `run`"
_TOOLS = "agents have no tools; ask a model by its name, without `run`"
_DETAILS = "several servers' calls make the answer; ask a model by its name, without `run`"
_OF_PREFILL = "prefill has the first token's, and a run reads decode alone; ask a model by its name, without `run`"
_MEDIA = "agents read text; ask a model by its name, without `run`"
_OPEN = "prompts are sent in parts, which do not carry it; ask a model by its name, without `run`"
_SERVERS = "the router chooses the servers; leave it out"

# Named alike in OpenAI's API and in SGLang's own.
_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
)

OPENAI_FIELDS: dict[str, FieldRule] = {
    **_applied(
        "final",
        (
            *_SAMPLING,
            "max_tokens",
            "max_completion_tokens",
            "min_tokens",
            "seed",
            "stop",
            "stop_token_ids",
            "stop_regex",
            "no_stop_trim",
            "ignore_eos",
            "skip_special_tokens",
            "logit_bias",
        ),
    ),
    **_applied("all", ("chat_template_kwargs", "reasoning_effort", "reasoning", "enable_thinking")),
    **_applied("router", ("model", "messages", "prompt", "input_ids", "n", "stream", "stream_options", "rid")),
    **_applied("label", ("user", "metadata", "safety_identifier", "store", "log_metrics", "no_logs", "custom_labels")),
    # Hints, by `router/hints/known_hints.py`; those without effect are named in the response's headers.
    **_applied("label", ("nvext", "service_tier", "prompt_cache_key", "prompt_cache_retention", "prediction")),
    **_applied("label", ("routing_key", "conversation_id")),
    "moa": FieldRule("router", None, "it belongs to requests to a tree"),
    **{name: FieldRule(None, "router", "it belongs to runs of agents") for name in ("run", "agent", "order")},
    "text": FieldRule(None, "router", "give `messages` or `prompt`"),
    "response_format": FieldRule(None, None, "must be text: " + _GRAMMAR, ({"type": "text"},)),
    **_refused(_GRAMMAR, ("regex", "ebnf", "json_schema", "structural_tag")),
    **_refused(_TOOLS, ("tools", "functions", "function_call", "tool_choice", "task"), "auto", "none"),
    **_refused(_TOOLS, ("parallel_tool_calls",), True),
    **_refused(
        _DETAILS,
        (
            "logprobs",
            "top_logprobs",
            "echo",
            "suffix",
            "return_logprob",
            "return_hidden_states",
            "return_routed_experts",
            "routed_experts_start_len",
            "return_cached_tokens_details",
            "return_prompt_token_ids",
            "return_token_ids",
            "return_meta_info",
        ),
    ),
    **_refused(_DETAILS, ("best_of",), 1),
    **_refused(
        _MEDIA,
        (
            "audio",
            "max_dynamic_patch",
            "min_dynamic_patch",
            "use_audio_in_video",
            "images_config",
            "image_data",
            "video_data",
            "audio_data",
        ),
    ),
    **_refused(_MEDIA, ("modalities",), ["text"]),
    **_refused("the answer begins anew; end the messages with the user's", ("continue_final_message",)),
    **_refused(_OPEN, ("lora_path", "extra_key", "cache_salt", "priority", "custom_logit_processor", "custom_params")),
    **_refused("the answer's text is sent as the model wrote it", ("separate_reasoning", "stream_reasoning"), True),
    **_refused("servers of pairs keep no sessions; send the whole prompt", ("session_id", "session_params")),
    **_refused(
        _SERVERS,
        (
            "bootstrap_host",
            "bootstrap_port",
            "bootstrap_room",
            "bootstrap_pair_key",
            "routed_dp_rank",
            "disagg_prefill_dp_rank",
            "data_parallel_rank",
        ),
    ),
}

NATIVE_FIELDS: dict[str, FieldRule] = {
    **_applied("router", ("run", "agent", "order", "model", "text", "prompt", "messages", "input_ids")),
    **_applied("router", ("sampling_params", "stream", "rid", "nvext")),
    **_applied(
        "final",
        (
            "return_logprob",
            "logprob_start_len",
            "top_logprobs_num",
            "return_text_in_logprobs",
            "return_hidden_states",
            "return_routed_experts",
            "routed_experts_start_len",
            "return_prompt_token_ids",
            "return_entropy",
            "return_sampling_mask",
            "return_flat_raw_top_logprobs",
            "return_flat_raw_top_logprobs_b64",
            "return_indexer_topk",
            "require_reasoning",
            "max_thinking_tokens",
            "custom_logit_processor",
        ),
    ),
    **_applied("label", ("log_metrics", "no_logs", "custom_labels", "conversation_id", "routing_key")),
    **_refused(_OF_PREFILL, ("token_ids_logprob",)),
    **_refused(
        _MEDIA,
        (
            "input_embeds",
            "image_data",
            "video_data",
            "audio_data",
            "mm_hashes",
            "use_audio_in_video",
            "modalities",
            "max_dynamic_patch",
            "min_dynamic_patch",
            "image_max_dynamic_patch",
            "video_max_dynamic_patch",
            "images_config",
            "need_wait_for_mm_inputs",
            "num_items_assigned",
            "mm_data_mooncake",
            "encoder_urls",
            "positional_embed_overrides",
        ),
    ),
    **_refused(_OPEN, ("lora_path", "lora_id", "extra_key", "priority", "multi_item_delimiter_indices")),
    **_refused("servers of pairs keep no sessions; send the whole prompt", ("session_id", "session_params")),
    **_refused(
        _SERVERS,
        (
            "bootstrap_host",
            "bootstrap_port",
            "bootstrap_room",
            "bootstrap_pair_key",
            "decode_tp_size",
            "routed_dp_rank",
            "disagg_prefill_dp_rank",
            "data_parallel_rank",
            "http_worker_ipc",
            "background",
            "return_bytes",
            "external_trace_header",
            "received_time",
        ),
    ),
}

NATIVE_SAMPLING: dict[str, FieldRule] = {
    **_applied(
        "final",
        (
            "max_new_tokens",
            "stop",
            "stop_token_ids",
            "stop_regex",
            *_SAMPLING,
            "min_new_tokens",
            "n",
            "json_schema",
            "regex",
            "ebnf",
            "structural_tag",
            "ignore_eos",
            "skip_special_tokens",
            "spaces_between_special_tokens",
            "no_stop_trim",
            "stream_interval",
            "logit_bias",
            "sampling_seed",
            "custom_params",
        ),
    ),
    **_refused(
        "SGLang sets it itself",
        ("stop_strs", "stop_regex_strs", "stop_str_max_len", "stop_regex_max_len", "is_normalized"),
    ),
}


def refuse_fields(fields: Mapping[str, Any], path: Path, table: Mapping[str, FieldRule] = OPENAI_FIELDS) -> None:
    """Raise `BadRequest` for the first field that would not be applied; the sentence names it and says why."""
    where = "to a tree of agents" if path == "tree" else "of a run"
    for name, value in fields.items():
        rule = table.get(name)
        if _asks_for_nothing(value, rule):
            continue
        if rule is None:
            raise BadRequest(f"`{name[:64]}` is not known in a request {where}; leave it out.")
        if name in HARMFUL_FIELDS:
            raise BadRequest(f"`{name}` is not taken here: {HARMFUL_FIELDS[name]}.")
        if (rule.tree if path == "tree" else rule.run) is None:
            raise BadRequest(f"`{name}` cannot be used in a request {where}: {rule.why}.")


def _asks_for_nothing(value: Any, rule: FieldRule | None) -> bool:
    return value in (None, False, "", [], {}) or (rule is not None and value in rule.neutral)
