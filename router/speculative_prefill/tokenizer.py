"""The tokenizer of a worker, called over HTTP: the router needs no model files, and chat templates are the server's."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import orjson

from router.dispatch.worker_errors import error_message
from router.errors import BadRequest, ConnectFailed, RouterError, UpstreamFailed, UpstreamTimeout
from router.speculative_prefill.probe_texts import PROBE_TEXTS
from router.workers.worker import Worker

TOKENIZE_TIMEOUT = 30.0  # seconds for one server's answer
MAX_SERVERS = 3  # asked one after another
AT_ONCE = 16  # requests to one server: the agents of many trees begin at the same moment
LONG_TEXT = 1 << 18  # characters or token ids from which on few are tokenized at once
LONG_AT_ONCE = 2  # the agents of a tree would send the same long question all at once else
AVOID_SECONDS = 60.0  # for which a server that failed to tokenize is asked last


@dataclass
class TokenizerState:
    """What the tokenizers of one router share.

    Attributes:
        failures: When a server failed to tokenize last, on the monotonic clock.
        long_texts: Held while a long text is tokenized.
        requests: Of each server, held while it tokenizes.
        asked: Requests to each server, with those that wait until it has fewer.
    """

    failures: WeakKeyDictionary[Worker, float] = field(default_factory=WeakKeyDictionary)
    requests: WeakKeyDictionary[Worker, asyncio.Semaphore] = field(default_factory=WeakKeyDictionary)
    asked: WeakKeyDictionary[Worker, int] = field(default_factory=WeakKeyDictionary)
    long_texts: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(LONG_AT_ONCE))


class WorkerTokenizer:
    """`/tokenize` and `/detokenize` of the SGLang servers of one model. A server that fails is replaced by another.

    All methods raise `BadRequest` with the server's message when it refuses, `UpstreamTimeout` when the last of
    `MAX_SERVERS` servers does not answer within `TOKENIZE_TIMEOUT`, and `UpstreamFailed` when its response is not as
    expected (also from a server started with `--skip-tokenizer-init`).

    Args:
        workers: The servers, at least one, those first that should tokenize long texts, since a server sends nothing
            meanwhile. For other texts the one with the fewest requests is asked first.
        state: Shared by the tokenizers of a router; None for a state of its own.
    """

    def __init__(self, workers: Sequence[Worker], state: TokenizerState | None = None) -> None:
        self._workers = workers
        self._state = state or TokenizerState()
        self._model = workers[0].model

    @property
    def identity(self) -> list[str | None]:
        """The model, and the fingerprints of its servers' tokenizers as far as they tell them."""
        return [self._model, *sorted({worker.report.tokenizer or "" for worker in self._workers})]

    async def agrees_with(self, other: "WorkerTokenizer") -> bool:
        """Whether both give the same token ids for all `PROBE_TEXTS`: only a sign that they are the same."""
        return await self.encode_all([*PROBE_TEXTS]) == await other.encode_all([*PROBE_TEXTS])

    async def render(self, messages: list[dict[str, Any]], options: Mapping[str, Any] | None = None) -> list[int]:
        """Token ids of a conversation under the model's chat template, up to where the answer begins.

        `options` are further fields of SGLang's chat API that the template reads, such as `chat_template_kwargs`.
        """
        size = sum(len(str(message.get("content") or "")) for message in messages)
        return _checked_ids(await self._post("/tokenize", {"messages": messages, **(options or {})}, size))

    async def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens added."""
        return (await self.encode_all([text]))[0]

    async def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Token ids of several texts, each tokenized by itself."""
        prompts = [text for text in dict.fromkeys(texts) if text]  # between many slots the same text comes again
        if not prompts:
            return [[] for _ in texts]
        batch = await self._post("/tokenize", {"prompt": prompts, "add_special_tokens": False}, sum(map(len, prompts)))
        if not isinstance(batch, list) or len(batch) != len(prompts):
            _raise_malformed()
        encoded = {text: _checked_ids(ids) for text, ids in zip(prompts, batch, strict=True)}
        return [encoded[text] if text else [] for text in texts]

    async def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens included."""
        text = await self._post("/detokenize", {"tokens": ids, "skip_special_tokens": False}, len(ids), "text")
        return text if isinstance(text, str) else _raise_malformed()

    async def _post(self, path: str, body: dict[str, Any], size: int, key: str = "tokens") -> Any:
        """The value of `key` in the response of the first server that answers; `size` is the length of the text."""
        raw = orjson.dumps({"model": self._model, **body})
        if size < LONG_TEXT:
            workers = sorted(self._workers, key=lambda worker: self._state.asked.get(worker, 0))
            return await self._post_to_first(workers, path, raw, key)
        async with self._state.long_texts:
            return await self._post_to_first(self._workers, path, raw, key)

    async def _post_to_first(self, preferred: Sequence[Worker], path: str, raw: bytes, key: str) -> Any:
        avoid_since = time.monotonic() - AVOID_SECONDS
        asked, failures = self._state.asked, self._state.failures
        workers = sorted(preferred, key=lambda worker: failures.get(worker, -1.0) > avoid_since)
        last_error: RouterError | None = None
        for worker in workers[:MAX_SERVERS]:
            try:
                asked[worker] = asked.get(worker, 0) + 1
                return await self._post_to(worker, path, raw, key)
            except (UpstreamFailed, UpstreamTimeout) as error:
                last_error = error
                failures[worker] = time.monotonic()
            finally:
                asked[worker] -= 1
        assert last_error is not None
        try:
            raise last_error
        finally:
            del last_error  # its traceback refers to this frame: a reference cycle

    def _requests_to(self, worker: Worker) -> asyncio.Semaphore:
        requests = self._state.requests.get(worker)
        if requests is None:
            requests = self._state.requests[worker] = asyncio.Semaphore(AT_ONCE)
        return requests

    async def _post_to(self, worker: Worker, path: str, raw: bytes, key: str) -> Any:
        sent = False
        try:
            async with asyncio.timeout(TOKENIZE_TIMEOUT), self._requests_to(worker):
                sent = True
                async with await worker.origin.request("POST", path, raw) as response:
                    answer = await response.read()
        except TimeoutError:
            if sent:
                _count_failure(worker)
            raise UpstreamTimeout(f"{worker.url} did not answer {path} within {TOKENIZE_TIMEOUT:g} s.") from None
        except ConnectFailed:
            _count_failure(worker)
            raise
        if response.status == 400:
            raise BadRequest(f"{self._model} cannot tokenize the prompt: {error_message(answer)}")
        if response.status != 200:
            raise UpstreamFailed(
                f"{worker.url} failed to tokenize ({response.status}: {error_message(answer)}); SGLang needs a "
                "tokenizer for that, and `model_max_length` in its tokenizer_config.json."
            )
        try:
            return orjson.loads(answer)[key]
        except (ValueError, KeyError, TypeError):
            _raise_malformed()


def _count_failure(worker: Worker) -> None:
    """Tell the worker's breaker; a success is not told, since it says nothing about whether the server generates."""
    worker.breaker.record_outcome(worker.breaker.begin_request(), success=False)


def _checked_ids(ids: Any) -> list[int]:
    return ids if isinstance(ids, list) and set(map(type, ids)) <= {int} else _raise_malformed()


def _raise_malformed() -> NoReturn:
    raise UpstreamFailed("a worker's answer to /tokenize is not in SGLang's form.")
