"""The judge's process: `python -m router.early_exit.judge_main --model builtin:minilm [--device auto|cpu|cuda]`.

It reads requests from stdin and writes responses to stdout, as messages of `judge_protocol`:

    first       {"ready": true}, or {"failed": sentence} and the end
    request     {"id", "texts", "confidences", "gamma", "tau", "m", "similarity", "deadline"}
    response    {"id", "C", "P", "Q", "S"} or {"id", "problem": sentence}

All waiting requests are measured as one batch. Requests past their `deadline` (`time.monotonic`, the same clock in
all processes of a machine) are not measured; the response says so, since the router ends a process that is silent. The
process ends as soon as stdin does, so it never outlives the router.
"""

import argparse
import math
import os
import queue
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from router.early_exit.judge_protocol import encode_message, nan_from_null, read_message

if TYPE_CHECKING:
    from torch import Tensor

    from router.early_exit.embedder import Embedder

Request = dict[str, Any]
MAX_BATCH = 256  # requests
NICE = -5  # a late decision saves nothing, and one takes milliseconds
WARM_UP_WORDS = 200  # of an answer's usual length


def main(arguments: list[str] | None = None) -> int:
    """Run until stdin ends; returns 1 when the model cannot be loaded. Ends the process when its GPU is lost."""
    parser = argparse.ArgumentParser(prog="python -m router.early_exit.judge_main")
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the router, which then closes stdin
    with suppress(PermissionError):
        os.nice(NICE)
    output = _reserve_stdout()
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    try:
        from router.early_exit.embedding_model import load_embedder

        embedder = load_embedder(options.model, options.device)
        warm_up(embedder)
    except Exception as error:
        _write(output, {"failed": _one_line(error)})
        return 1
    _write(output, {"ready": True})
    while True:
        responses = process_batch(_next_batch(requests), embedder)
        for response in responses:
            _write(output, response)
        if any("problem" in response for response in responses) and device_is_lost(embedder):
            print("the judge ends, since its GPU is lost to it; the router starts another one", file=sys.stderr)
            sys.stderr.flush()
            os._exit(1)  # the thread that reads holds the lock of stdin


def warm_up(embedder: "Embedder") -> None:
    """Measure a made-up cluster: what the first measurement loads and compiles takes seconds on a busy machine."""
    texts = ["warm " * WARM_UP_WORDS, "up " * WARM_UP_WORDS, "now"]
    request = {"id": 0, "texts": texts, "confidences": [1.0] * len(texts), "gamma": 0.5, "tau": 0.7, "m": 1}
    (response,) = process_batch([{**request, "similarity": "pooled", "deadline": math.inf}], embedder)
    if "problem" in response:
        raise RuntimeError(response["problem"])


def device_is_lost(embedder: "Embedder") -> bool:
    """Whether nothing can be computed any more: after an illegal access, CUDA fails in a process until its end."""
    import torch

    try:
        torch.zeros(1, device=embedder.device).item()
    except torch.OutOfMemoryError:
        return False
    except RuntimeError:
        return True
    return False


def process_batch(requests: list[Request], embedder: "Embedder") -> list[dict[str, Any]]:
    """The responses to a batch of requests; a wrong request does not spoil the others."""
    from router.early_exit.q_metric_batch import ClusterInput, measure_clusters

    try:
        now = time.monotonic()
        live = [request for request in requests if request["deadline"] > now]
        by_tokens = [request["similarity"] == "correlation" for request in live]
        pooled = [
            (text, request["m"])
            for request, tokens in zip(live, by_tokens, strict=True)
            if not tokens
            for text in request["texts"]
        ]
        read = [text for request, tokens in zip(live, by_tokens, strict=True) if tokens for text in request["texts"]]
        embeddings = iter(embedder.embed(pooled))
        states = iter(_hidden_states(read, embedder))
        clusters = [
            ClusterInput(
                [next(states if tokens else embeddings) for _ in request["texts"]],
                [nan_from_null(confidence) for confidence in request["confidences"]],
                request["gamma"],
                request["tau"],
                tokens,
            )
            for request, tokens in zip(live, by_tokens, strict=True)
        ]
        measured = [
            {"id": request["id"], "C": metrics.C, "P": metrics.P, "Q": metrics.Q, "S": metrics.S}
            for request, metrics in zip(live, measure_clusters(clusters), strict=True)
        ]
        late = [request for request in requests if request["deadline"] <= now]
        return [*measured, *({"id": request["id"], "problem": "it came too late"} for request in late)]
    except Exception as error:
        if len(requests) > 1:
            return [response for request in requests for response in process_batch([request], embedder)]
        return [{"id": requests[0]["id"], "problem": _one_line(error)}]


def _hidden_states(texts: list[str], embedder: "Embedder") -> "list[Tensor]":
    if not texts:
        return []
    if embedder.tokens is None:
        raise ValueError("the embedding model has no hidden states of tokens: use the similarity pooled")
    return embedder.tokens.of(texts)


def _reserve_stdout() -> BinaryIO:
    """Stdout for responses alone: what libraries print goes to stderr."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return output


def _read_requests(requests: "queue.SimpleQueue[Request]") -> None:
    try:
        while (request := read_message(sys.stdin.buffer)) is not None:
            requests.put(request)
    finally:
        os._exit(0)  # the main thread may be inside a long forward pass


def _next_batch(requests: "queue.SimpleQueue[Request]") -> list[Request]:
    """Waits for one request; takes all others that are waiting with it."""
    batch = [requests.get()]
    while len(batch) < MAX_BATCH and not requests.empty():
        batch.append(requests.get())
    return batch


def _write(output: BinaryIO, message: dict[str, Any]) -> None:
    output.write(encode_message(message))
    output.flush()


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:500] if text else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
