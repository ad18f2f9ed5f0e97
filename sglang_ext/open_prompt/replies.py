"""Answers that carry no tokens.

SGLang's answers go through the detokenizer process, save one: `AbortReq`, which takes a finish reason of
any type straight to the HTTP process. A segment that is ready ends there with reason `length`.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from sglang_ext.open_prompt import state
from sglang_ext.open_prompt.protocol import is_segment

READY = {"type": "length", "length": 0}


def answer(req: Any, finish_reason: dict[str, Any] = READY) -> None:
    """End a request, received (`TokenizedGenerateReqInput`) or scheduled (`Req`), towards its client."""
    from sglang.srt.managers.io_struct import AbortReq

    message = AbortReq(rid=req.rid, finished_reason=dict(finish_reason))
    message.http_worker_ipc = req.http_worker_ipc
    state.scheduler().ipc_channels.send_to_tokenizer.send_output(message)


def refuse(req: Any, sentence: str) -> None:
    """Answer with 400."""
    answer(req, {"type": "abort", "status_code": HTTPStatus.BAD_REQUEST.value, "message": sentence})


def without_detokenizer(
    original: Callable[..., None], streamer: Any, reqs: list[Any], return_logprob: bool, skip_req: Any = None
) -> None:
    """AROUND `SchedulerOutputStreamer.stream_output`: answer segments here, also those that failed."""
    prompts = state.prompts()
    segments = [req for req in reqs if is_segment(req)] if prompts is not None and prompts.used else []
    if not segments:
        original(streamer, reqs, return_logprob, skip_req)
        return
    for req in segments:
        if req.finished_reason is not None:
            answer(req, req.finished_reason.to_json())
    others = [req for req in reqs if not is_segment(req)]
    if others:
        original(streamer, others, return_logprob, skip_req)
