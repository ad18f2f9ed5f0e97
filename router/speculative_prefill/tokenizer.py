"""A worker's tokenizer, asked over HTTP: the router needs no model files, and templates are the server's own."""

from typing import Any, NoReturn

import orjson

from router.dispatch.worker_errors import error_message
from router.errors import BadRequest, UpstreamFailed
from router.workers.worker import Worker

# Scripts, numbers, spaces, code and an emoji: tokenizers that agree on it are taken for the same.
PROBE_TEXT = "The 1,234 naïve cats' Straße  \n\n\tdef f(x_1): return [x**2]  # 質問 вопрос سؤال 😀 <|im_end|></s>"


class WorkerTokenizer:
    """`/tokenize` and `/detokenize` of one SGLang server.

    All methods raise `BadRequest` with the server's words when it refuses, and `UpstreamFailed` when
    it does not answer as expected (also: a server started with `--skip-tokenizer-init`).
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def same_as(self, other: "WorkerTokenizer") -> bool:
        """Whether ids of the one are the ids of the other."""
        if self._worker.model == other._worker.model:
            return True
        return await self.encode(PROBE_TEXT) == await other.encode(PROBE_TEXT)

    async def render(self, messages: list[dict[str, Any]]) -> list[int]:
        """Token ids of a conversation under the model's chat template, ready to be answered."""
        told = await self._ask("/tokenize", {"messages": messages})
        return _ids(told)

    async def encode(self, text: str) -> list[int]:
        """Token ids of a text, special tokens not added."""
        return (await self.encode_all([text]))[0]

    async def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, each apart."""
        wanted = [text for text in texts if text]
        if not wanted:
            return [[] for _ in texts]
        told = await self._ask("/tokenize", {"prompt": wanted, "add_special_tokens": False})
        found = iter([_ids(each) for each in told] if isinstance(told, list) and len(told) == len(wanted) else _odd())
        return [next(found) if text else [] for text in texts]

    async def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens included."""
        told = await self._ask("/detokenize", {"tokens": ids, "skip_special_tokens": False}, "text")
        return told if isinstance(told, str) else _odd()

    async def _ask(self, path: str, body: dict[str, Any], key: str = "tokens") -> Any:
        body = {"model": self._worker.model, **body}
        async with await self._worker.origin.request("POST", path, orjson.dumps(body)) as response:
            raw = await response.read()
        if response.status == 400:
            raise BadRequest(f"{self._worker.model} cannot tokenize the prompt: {error_message(raw)}")
        if response.status != 200:
            raise UpstreamFailed(
                f"{self._worker.url} failed to tokenize ({response.status}: {error_message(raw)}); SGLang needs a "
                "tokenizer for that, and `model_max_length` in its tokenizer_config.json."
            )
        try:
            return orjson.loads(raw)[key]
        except (ValueError, KeyError, TypeError):
            _odd()


def _ids(told: Any) -> list[int]:
    return told if isinstance(told, list) and all(type(each) is int for each in told) else _odd()


def _odd() -> NoReturn:
    raise UpstreamFailed("a worker's answer to /tokenize is not in SGLang's form.")
