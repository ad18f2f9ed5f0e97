"""Sampling parameters: which a client may send, and their names in OpenAI's API and in SGLang's `/generate`."""

from typing import Any

from router.moa.request_fields import OPENAI_FIELDS

# Fields of a request that go to the agent that answers the client.
FORWARDED_SAMPLING = tuple(name for name, rule in OPENAI_FIELDS.items() if rule.tree == "final")
SGLANG_NAMES = {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens", "seed": "sampling_seed"}
OPENAI_NAMES = {sglang: openai for openai, sglang in SGLANG_NAMES.items()}


def requested_sampling(body: dict[str, Any]) -> dict[str, Any]:
    """The sampling parameters of a client's request, by OpenAI's names; `max_completion_tokens` is `max_tokens`."""
    sampling = {key: body[key] for key in FORWARDED_SAMPLING if body.get(key) is not None}
    if body.get("max_completion_tokens") is not None:
        sampling["max_tokens"] = sampling.pop("max_completion_tokens")
    return sampling


def sglang_sampling(sampling: dict[str, Any]) -> dict[str, Any]:
    """Sampling by OpenAI's names, as SGLang's `/generate` takes it."""
    renamed = dict(sampling)
    for openai, sglang in SGLANG_NAMES.items():
        if openai in renamed:
            renamed[sglang] = renamed.pop(openai)
    return renamed


def openai_sampling(sampling: dict[str, Any]) -> dict[str, Any]:
    """Sampling by SGLang's names, as OpenAI-compatible servers take it."""
    return {OPENAI_NAMES.get(key, key): value for key, value in sampling.items()}
