"""The judge's process: `python -m router.early_exit.judge_main --model builtin:minilm [--device auto|cpu|cuda]`.

It reads requests from stdin and answers them on stdout, as `router.early_exit.framing`:

    first       {"ready": true}, or {"failed": sentence} and the end
    request     {"id", "texts", "confidences", "gamma", "tau", "m", "until"}
    answer      {"id", "C", "P", "Q", "S"} or {"id", "problem": sentence}

All requests that wait are measured as one batch; those whose `until` (`time.monotonic`, the same clock in all
processes of a machine) has passed are dropped unanswered, so that a slow judge does not work for nobody. It ends when
stdin does, whatever it is doing: nothing of it outlives the router.
"""

import argparse
import os
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, BinaryIO

from router.early_exit import framing as frames

if TYPE_CHECKING:
    from router.early_exit.embedder import Embedder

Request = dict[str, Any]
_AT_ONCE = 256  # requests in one batch
NICE = 10  # a decision may wait; the router's streams on the same cores should not


def main(arguments: list[str] | None = None) -> int:
    """Run until stdin ends; returns 1 when the model cannot be loaded."""
    parser = argparse.ArgumentParser(prog="python -m router.early_exit.judge_main")
    parser.add_argument("--model", required=True)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the router, which then closes stdin
    os.nice(NICE)
    answers = _own_stdout()
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    try:
        from router.early_exit.embedding_model import load_embedder

        embedder = load_embedder(options.model, options.device)
    except Exception as error:
        _say(answers, {"failed": _sentence(error)})
        return 1
    _say(answers, {"ready": True})
    while True:
        for answer in serve(_waiting(requests), embedder):
            _say(answers, answer)


def serve(requests: list[Request], embedder: "Embedder") -> list[dict[str, Any]]:
    """The answers to a batch of requests; one that is wrong does not spoil the others'."""
    from router.early_exit.q_metric_batch import ClusterInput, measure_clusters, nan_from_json

    try:
        now = time.monotonic()
        live = [request for request in requests if request["until"] > now]
        rows = iter(embedder.embed([(text, request["m"]) for request in live for text in request["texts"]]))
        clusters = [
            ClusterInput(
                [next(rows) for _ in request["texts"]],
                [nan_from_json(confidence) for confidence in request["confidences"]],
                request["gamma"],
                request["tau"],
            )
            for request in live
        ]
        return [
            {"id": request["id"], "C": figures.C, "P": figures.P, "Q": figures.Q, "S": figures.S}
            for request, figures in zip(live, measure_clusters(clusters), strict=True)
        ]
    except Exception as error:
        if len(requests) > 1:
            return [answer for request in requests for answer in serve([request], embedder)]
        return [{"id": requests[0]["id"], "problem": _sentence(error)}]


def _own_stdout() -> BinaryIO:
    """Stdout for answers alone: what libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _listen(requests: "queue.SimpleQueue[Request]") -> None:
    try:
        while (request := frames.read(sys.stdin.buffer)) is not None:
            requests.put(request)
    finally:
        os._exit(0)  # the main thread may be inside a long forward pass


def _waiting(requests: "queue.SimpleQueue[Request]") -> list[Request]:
    """At least one request, and all others that wait."""
    batch = [requests.get()]
    while len(batch) < _AT_ONCE and not requests.empty():
        batch.append(requests.get())
    return batch


def _say(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(frames.pack(message))
    answers.flush()


def _sentence(error: Exception) -> str:
    """An error as one line."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}"[:500] if words else type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
