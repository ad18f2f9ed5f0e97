"""A short generation by a plain server, to learn whether it serves."""

import asyncio
from typing import Any

import orjson

from router.dispatch.worker_errors import error_message
from router.dispatch.worker_use import WorkerUse
from router.errors import UpstreamFailed, UpstreamTimeout
from router.workers.worker import Worker

# Token ids that every vocabulary has, since a server may run without a tokenizer. The tokens are sampled, since a GPU's
# kernels for that are compiled at their first use, on a new machine for a minute in which a server serves nobody.
WARM_UP_BODY: dict[str, Any] = {
    "input_ids": [1, 2, 3, 4],
    "sampling_params": {
        "max_new_tokens": 2,
        "temperature": 1,
        "top_k": 4,
        "top_p": 0.9,
        "min_p": 0.01,
        "ignore_eos": True,
    },
}

# On a GPU the prompt is some pages long, so that it is found cached the second time, for which there are other kernels.
GPU_WARM_UP_BODY = WARM_UP_BODY | {"input_ids": [1, 2, 3, 4] * 32}


async def generate_on_plain(worker: Worker, seconds: float) -> None:
    """Let a plain server generate a token or two; the outcome counts for its circuit breaker.

    Raises:
        RouterError: It failed, or did not answer within `seconds`.
    """
    if worker.capability == "sglang":
        path, body = "/generate", WARM_UP_BODY
    else:
        path = "/v1/chat/completions"
        body = {
            "model": worker.served.own_name_of(worker.model or ""),
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 1,
        }
    try:
        with WorkerUse(worker) as use:
            async with (
                asyncio.timeout(seconds),
                await worker.origin.request("POST", path, orjson.dumps(body), on_change=use.on_data) as response,
            ):
                use.status = response.status
                answer = await response.read()
    except TimeoutError:
        raise UpstreamTimeout(f"{worker.url} did not answer within {seconds:g} s.") from None
    if response.status != 200:
        raise UpstreamFailed(f"{worker.url} answered with {response.status}: {error_message(answer)}")
