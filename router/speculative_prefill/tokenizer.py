"""The tokenizer of a worker, called over HTTP: the router needs no model files, and chat templates are the server's."""

from typing import Any, NoReturn

import orjson

from router.dispatch.worker_errors import error_message
from router.errors import BadRequest, UpstreamFailed
from router.workers.worker import Worker

# Scripts, numbers, spaces, code and an emoji: tokenizers that agree on it are taken for the same.
PROBE_TEXT = "The 1,234 naïve cats' Straße  \n\n\tdef f(x_1): return [x**2]  # 質問 вопрос سؤال 😀 <|im_end|></s>"


class WorkerTokenizer:
    """`/tokenize` and `/detokenize` of one SGLang server.

    All methods raise `BadRequest` with the server's message when it refuses, and `UpstreamFailed` when its response
    is not as expected (also from a server started with `--skip-tokenizer-init`).
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def same_as(self, other: "WorkerTokenizer") -> bool:
        """Whether both give the same token ids."""
        if self._worker.model == other._worker.model:
            return True
        return await self.encode(PROBE_TEXT) == await other.encode(PROBE_TEXT)

    async def render(self, messages: list[dict[str, Any]]) -> list[int]:
        """Token ids of a conversation under the model's chat template, up to where the answer begins."""
        return _checked_ids(await self._post("/tokenize", {"messages": messages}))

    async def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens added."""
        return (await self.encode_all([text]))[0]

    async def encode_all(self, texts: list[str]) -> list[list[int]]:
        """Token ids of several texts, each tokenized by itself."""
        prompts = [text for text in texts if text]
        if not prompts:
            return [[] for _ in texts]
        batch = await self._post("/tokenize", {"prompt": prompts, "add_special_tokens": False})
        if not isinstance(batch, list) or len(batch) != len(prompts):
            _raise_malformed()
        encoded = iter([_checked_ids(ids) for ids in batch])
        return [next(encoded) if text else [] for text in texts]

    async def decode(self, ids: list[int]) -> str:
        """The text of token ids, special tokens included."""
        text = await self._post("/detokenize", {"tokens": ids, "skip_special_tokens": False}, "text")
        return text if isinstance(text, str) else _raise_malformed()

    async def _post(self, path: str, body: dict[str, Any], key: str = "tokens") -> Any:
        """The value of `key` in the response."""
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
            _raise_malformed()


def _checked_ids(ids: Any) -> list[int]:
    return ids if isinstance(ids, list) and all(type(each) is int for each in ids) else _raise_malformed()


def _raise_malformed() -> NoReturn:
    raise UpstreamFailed("a worker's answer to /tokenize is not in SGLang's form.")
