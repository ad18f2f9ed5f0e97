"""Requests of open prompts as they reach the scheduler."""

from collections.abc import Callable
from typing import Any

from sglang_ext.open_prompt import replies, state
from sglang_ext.open_prompt.protocol import KEY, Mark, Refused


def receive(original: Callable[..., None], scheduler: Any, recv_req: Any) -> None:
    """AROUND `Scheduler.handle_generate_request`: give a marked request its whole prompt, or refuse it."""
    custom = recv_req.sampling_params.custom_params
    if not isinstance(custom, dict) or KEY not in custom:
        original(scheduler, recv_req)
        return
    try:
        mark = _take(recv_req, custom[KEY])
    except Refused as error:
        prompts = state.prompts()
        if prompts is not None:
            prompts.counters.refused += 1
        replies.refuse(recv_req, str(error))
        return
    if mark.op == "close":
        replies.answer(recv_req)
        return
    custom[KEY] = mark
    original(scheduler, recv_req)


def _take(recv_req: Any, told: object) -> Mark:
    prompts = state.prompts()
    if prompts is None:
        raise Refused(f"this server has no open prompts: {state.why_not()}.")
    mark = Mark.read(told)
    if mark.op == "close":
        prompts.close(mark.id)
        return mark
    if recv_req.input_embeds is not None or recv_req.mm_inputs is not None or recv_req.session_params is not None:
        raise Refused("an open prompt consists of token ids; send no embeddings, images or sessions with it.")
    if mark.op == "append" and (recv_req.sampling_params.max_new_tokens != 0 or recv_req.return_logprob):
        raise Refused("a segment generates nothing; send it with `max_new_tokens` 0 and without `return_logprob`.")
    _check_answer_fits(mark, recv_req)
    recv_req.input_ids = prompts.extend(mark, recv_req.input_ids, recv_req.rid)
    return mark


def _check_answer_fits(mark: Mark, recv_req: Any) -> None:
    """What the HTTP process checks of an ordinary request, but here sees only the new tokens of."""
    total = mark.at + len(recv_req.input_ids)
    wanted = recv_req.sampling_params.max_new_tokens
    most = state.scheduler().model_config.context_len
    if mark.op == "final" and wanted is not None and total + wanted > most:
        raise Refused(
            f"the open prompt {mark.id} has {total} tokens and its answer may have {wanted}, but the model takes "
            f"{most} together; it stays open for a shorter answer."
        )
