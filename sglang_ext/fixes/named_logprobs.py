"""Log-probabilities of tokens that a request names (`token_ids_logprob`)."""

from typing import Any


def make_rows_alike(result: tuple[list[Any], list[Any]], logprobs: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER `get_token_ids_logprobs`: an empty row is a tensor where the others are tensors.

    SGLang 0.5.17 gives an empty list for a request of the batch that names no tokens, and a tensor for one that does.
    Its scheduler then calls `tolist` on each, which ends the server with every client's request.
    """
    rows, _ = result
    if any(hasattr(row, "tolist") for row in rows):
        rows[:] = [row if hasattr(row, "tolist") else logprobs.new_empty(0) for row in rows]


def keep_a_row_for_the_first_token(result: object, queue: object, decode_request: Any) -> None:
    """AFTER `DecodeTransferQueue._commit_transfer_to_req`: each token has its row, the first an empty one.

    Prefill sampled the first, and does not hand over the log-probabilities of named tokens. SGLang 0.5.17 sends rows of
    a stream by the tokens' numbers, so that without this row each event would miss its own.
    """
    told = decode_request.req.logprob
    if decode_request.req.return_logprob and told.token_ids_logprob is not None:
        missing = len(told.output_token_logprobs_val) - len(told.output_token_ids_logprobs_val)
        told.output_token_ids_logprobs_val.extend([] for _ in range(missing))
        told.output_token_ids_logprobs_idx.extend([] for _ in range(missing))
