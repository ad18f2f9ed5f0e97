"""Answers without tokens, sent past the detokenizer.

SGLang's answers go through the detokenizer process, except `AbortReq`: it takes a finish reason of any type
straight to the HTTP process. A finished segment is answered so, with reason `length`.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from sglang_ext.open_prompt import scheduler_state
from sglang_ext.open_prompt.operation import is_segment
from sglang_ext.upstream.request import ReceivedRequest, Request
from sglang_ext.upstream.scheduler import Scheduler

FINISHED = {"type": "length", "length": 0}


def send_finish(scheduler: Scheduler, req: ReceivedRequest | Request, finish_reason: dict[str, Any] = FINISHED) -> None:
    """Answer a request's client with a finish reason and no tokens."""
    from sglang.srt.managers.io_struct import AbortReq

    message = AbortReq(rid=req.rid, finished_reason=dict(finish_reason))
    message.http_worker_ipc = req.http_worker_ipc
    scheduler.ipc_channels.send_to_tokenizer.send_output(message)


def send_bad_request(scheduler: Scheduler, req: ReceivedRequest, message: str) -> None:
    """Answer a request's client with status 400."""
    reason = {"type": "abort", "status_code": HTTPStatus.BAD_REQUEST.value, "message": message}
    send_finish(scheduler, req, reason)


def answer_segments_directly(
    original: Callable[..., None],
    streamer: object,
    reqs: list[Request],
    return_logprob: bool,
    skip_req: Request | None = None,
) -> None:
    """AROUND `SchedulerOutputStreamer.stream_output`: answer segments that have ended, also those that failed."""
    state = scheduler_state.in_use()
    segments = [req for req in reqs if is_segment(req)] if state is not None else []
    if state is None or not segments:
        original(streamer, reqs, return_logprob, skip_req)
        return
    for req in segments:
        if req.finished_reason is not None:
            send_finish(state.scheduler, req, req.finished_reason.to_json())
    others = [req for req in reqs if not is_segment(req)]
    if others:
        original(streamer, others, return_logprob, skip_req)
