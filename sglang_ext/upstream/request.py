"""Requests as SGLang's processes pass them on."""

from array import array
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class SamplingParams(Protocol):
    """`sglang.srt.sampling.sampling_params.SamplingParams`: how to sample one request."""

    max_new_tokens: int | None
    custom_params: dict[str, Any] | None  # as the client sent it


class FinishReason(Protocol):
    """`sglang.srt.managers.schedule_batch.BaseFinishReason`: why a request ended."""

    def to_json(self) -> dict[str, Any]:
        """Return the reason as the client gets it."""


class TimeStats(Protocol):
    """`sglang.srt.observability.req_time_stats.SchedulerReqTimeStats`: when a request passed each stage."""

    def set_completion_time(self) -> None:
        """Note that the request has ended now."""


class TokenRange(Protocol):
    """`sglang.srt.utils.common.Range`: the tokens of a request that are computed next, or received."""

    @property
    def length(self) -> int:
        """Return how many they are."""


class Request(Protocol):
    """`sglang.srt.managers.schedule_batch.Req`: a request in the scheduler, from admission to its end."""

    rid: str
    sampling_params: SamplingParams
    origin_input_ids: "array[int]"
    output_ids: "array[int]"
    prefix_indices: "torch.Tensor"  # KV slots of what is cached of it, int64 of shape [tokens]
    extend_range: TokenRange
    extra_key: str | None  # separates cached prefixes, for instance by LoRA adapter
    finished_reason: FinishReason | None
    time_stats: TimeStats
    http_worker_ipc: str | None
    pending_bootstrap: bool  # prefilled before its handshake with the decode server has ended
    skip_radix_cache_insert: bool


class ReceivedRequest(Protocol):
    """`sglang.srt.managers.io_struct.TokenizedGenerateReqInput`: a request as it reaches the scheduler."""

    rid: str
    sampling_params: SamplingParams
    input_ids: Sequence[int]
    input_embeds: object | None
    mm_inputs: object | None
    session_params: object | None
    return_logprob: bool
    priority: int | None
    http_worker_ipc: str | None


class AbortRequest(Protocol):
    """`sglang.srt.managers.io_struct.AbortReq`: ends all requests whose ids begin with `rid`."""

    rid: str
    abort_all: bool


class HttpRequest(Protocol):
    """`sglang.srt.managers.io_struct.GenerateReqInput`: a request as it reaches the HTTP process."""

    sampling_params: dict[str, Any] | None
    return_logprob: object
    top_logprobs_num: object
    logprob_start_len: object
    return_sampling_mask: object
    return_hidden_states: object
    lora_path: object
    lora_id: object
    custom_labels: dict[str, str] | None
    positional_embed_overrides: object
    custom_logit_processor: object
    extra_key: object
    priority: object
    rid: str
    bootstrap_host: str | None
    bootstrap_port: object
    bootstrap_room: object

    def contains_mm_input(self) -> bool:
        """Return whether it brings images, videos or sounds."""
