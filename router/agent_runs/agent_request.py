"""Reads and checks the request of one agent of a client's run."""

import re
from dataclasses import dataclass
from typing import Any, get_args

from router.agent_runs.placeholders import PROMPT_FIELDS, read_prompt
from router.dispatch.prefill_logprobs import wants_prefill_logprobs
from router.errors import BadRequest
from router.moa.openai_format import EndpointKind
from router.moa.prompt_draft import PromptDraft
from router.moa.request_fields import NATIVE_FIELDS, NATIVE_SAMPLING, refuse_fields
from router.moa.sampling import requested_sampling, sglang_sampling
from router.moa.sampling_values import check_sampling_values
from router.request_checks.sampling_bounds import check_sampling
from router.speculative_prefill.composition import AnswerOrder
from router.speculative_prefill.template import AGENT_NAME

RUN_FIELDS = ("run", "agent", "order")


@dataclass(frozen=True)
class AgentRequest:
    """One agent's request.

    Attributes:
        run: The run's name.
        agent: The agent's name in it; None for an agent that nobody can read.
        order: Order of the upstream answers in the prompt.
        draft: The prompt, with placeholders for upstream answers.
        sampling: Sampling parameters by SGLang's names.
        extra_fields: More fields of a `/generate` request, passed on as they are.
        stream: Whether the client gets the text as it comes.
        include_usage: Whether the last chunk of OpenAI's APIs has the usage.
    """

    run: str
    agent: str | None
    order: AnswerOrder
    draft: PromptDraft
    sampling: dict[str, Any]
    extra_fields: dict[str, Any]
    stream: bool
    include_usage: bool


def read_agent_request(body: dict[str, Any], kind: EndpointKind | None) -> AgentRequest:
    """Read a request's body; `kind` is None for `/generate`. Raises `BadRequest` with the first thing that is wrong."""
    run, agent, order = _read_names(body)
    draft = read_prompt(body)
    if kind is None:
        sampling, extra_fields, include_usage = *_read_generate(body), False
    else:
        sampling, extra_fields = _read_openai_sampling(body, kind), {}
        include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    return AgentRequest(
        run=run,
        agent=agent,
        order=order,
        draft=draft,
        sampling=sampling,
        extra_fields=extra_fields,
        stream=bool(body.get("stream")),
        include_usage=include_usage,
    )


def _read_names(body: dict[str, Any]) -> tuple[str, str | None, AnswerOrder]:
    for key in ("run", "agent"):
        name = body.get(key)
        if name is None and key == "agent":
            continue
        if not isinstance(name, str) or not re.fullmatch(AGENT_NAME, name):
            raise BadRequest(f"`{key}` must be 1 to 64 letters, digits or ._:- and begin with a letter or digit.")
    order: AnswerOrder = body.get("order") or "declared"
    if order not in get_args(AnswerOrder):
        raise BadRequest(f"`order` must be one of {', '.join(get_args(AnswerOrder))}.")
    return body["run"], body.get("agent"), order


def _read_generate(body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """`sampling_params` of a `/generate` request, and the fields that the router does not set itself."""
    sampling = body.get("sampling_params") or {}
    if not isinstance(sampling, dict):
        raise BadRequest("`sampling_params` must be an object.")
    refuse_fields(body, "run", NATIVE_FIELDS)
    refuse_fields(sampling, "run", NATIVE_SAMPLING)
    check_sampling(body, "/generate")
    if wants_prefill_logprobs("/generate", body):
        raise BadRequest("`logprob_start_len` must be -1 in a request of a run: its prompt comes in several parts.")
    set_by_router = (*RUN_FIELDS, *PROMPT_FIELDS, "sampling_params", "stream", "rid", "model", "nvext")
    return sampling, {key: value for key, value in body.items() if key not in set_by_router}


def _read_openai_sampling(body: dict[str, Any], kind: EndpointKind) -> dict[str, Any]:
    refuse_fields(body, "run")
    check_sampling_values(body, "/v1/chat/completions" if kind == "chat" else "/v1/completions")
    if body.get("n") not in (None, 1):
        raise BadRequest("`n` must be 1 in a request of a run: its readers read one answer.")
    if not isinstance(body.get("stream_options") or {}, dict):
        raise BadRequest("`stream_options` must be an object.")
    sampling = requested_sampling(body)
    # The APIs' own defaults: chat has no limit but the context length, completions 16 tokens.
    sampling.setdefault("max_tokens", None if kind == "chat" else 16)
    return sglang_sampling(sampling)
