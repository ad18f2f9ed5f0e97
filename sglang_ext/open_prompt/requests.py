"""Requests of open prompts as they reach the scheduler."""

from collections.abc import Callable

from sglang_ext.open_prompt import replies, scheduler_state
from sglang_ext.open_prompt.operation import CUSTOM_PARAM, InvalidOperation, Operation
from sglang_ext.open_prompt.scheduler_state import OpenPromptScheduler
from sglang_ext.upstream.request import ReceivedRequest
from sglang_ext.upstream.scheduler import Scheduler


def receive_operation(original: Callable[..., None], scheduler: Scheduler, recv_req: ReceivedRequest) -> None:
    """AROUND `Scheduler.handle_generate_request`: do the request's operation, or answer with 400.

    An append or a final goes on to SGLang with its whole prompt. A close ends here.
    """
    custom = recv_req.sampling_params.custom_params
    if not isinstance(custom, dict) or CUSTOM_PARAM not in custom:
        original(scheduler, recv_req)
        return
    state = scheduler_state.current()
    try:
        if state is None:
            raise InvalidOperation(f"this server has no open prompts: {scheduler_state.unsupported_reason()}.")
        operation = _apply(state, recv_req, custom[CUSTOM_PARAM])
    except InvalidOperation as error:
        if state is not None:
            state.prompts.counters.refused += 1
        replies.send_bad_request(scheduler, recv_req, str(error))
        return
    if operation.op == "close":
        replies.send_finish(scheduler, recv_req)
        return
    custom[CUSTOM_PARAM] = operation
    original(scheduler, recv_req)


def _apply(state: OpenPromptScheduler, recv_req: ReceivedRequest, value: object) -> Operation:
    """Check and do the operation in `custom_params`; `recv_req` then has the whole prompt."""
    operation = Operation.from_json(value)
    if operation.op == "close":
        state.prompts.close(operation.id)
        return operation
    if recv_req.input_embeds is not None or recv_req.mm_inputs is not None or recv_req.session_params is not None:
        raise InvalidOperation("an open prompt consists of token ids; send no embeddings, images or sessions with it.")
    if operation.op == "append" and (recv_req.sampling_params.max_new_tokens != 0 or recv_req.return_logprob):
        raise InvalidOperation(
            "a segment generates nothing; send it with `max_new_tokens` 0 and without `return_logprob`."
        )
    if operation.op == "append":
        recv_req.priority = None  # a decode server sorts by it, and a segment without room would block those behind it
    _check_answer_fits(state.scheduler, operation, recv_req)
    recv_req.input_ids = state.prompts.extend(operation, recv_req.input_ids, recv_req.rid)
    return operation


def _check_answer_fits(scheduler: Scheduler, operation: Operation, recv_req: ReceivedRequest) -> None:
    """Check prompt and answer against the context length: the HTTP process saw only the new tokens."""
    total = operation.at + len(recv_req.input_ids)
    max_new_tokens = recv_req.sampling_params.max_new_tokens
    context_len = scheduler.model_config.context_len
    if operation.op == "final" and max_new_tokens is not None and total + max_new_tokens > context_len:
        raise InvalidOperation(
            f"the open prompt {operation.id} has {total} tokens and its answer may have {max_new_tokens}, but the "
            f"model takes {context_len} together; it stays open for a shorter answer."
        )
