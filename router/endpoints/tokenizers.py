"""Tokenizers: `/v1/tokenizers` and `/v1/tokenizers/{id}`, as sglang-router lists them; here servers have them."""

import uuid
from typing import Any

from router.errors import NotFound
from router.http.client_request import ClientRequest
from router.workers.registry import Registry
from router.workers.worker import Worker


class TokenizerEndpoints:
    """Lists one tokenizer for each model whose SGLang servers have one. The router loads none itself."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def list_all(self, request: ClientRequest) -> None:
        """The tokenizers that `/v1/tokenize` can use now."""
        await request.send_json({"tokenizers": self._all()})

    async def show(self, request: ClientRequest, name: str) -> None:
        """One of them, by its id or its model's name; raises `NotFound`."""
        for tokenizer in self._all():
            if name in (tokenizer["id"], tokenizer["name"]):
                await request.send_json(tokenizer)
                return
        raise NotFound(f"there is no tokenizer {name[:100]!r} here; GET /v1/tokenizers tells all.")

    def _all(self) -> list[dict[str, Any]]:
        served = self._registry.models()
        with_tokenizer = {model for worker in self._registry.workers if _has_one(worker) for model in worker.models}
        return [_entry(model) for model in served if model in with_tokenizer]


def _has_one(worker: Worker) -> bool:
    is_sglang = worker.role != "prefill" and worker.capability != "openai"
    return is_sglang and worker.health.usable and not worker.report.skip_tokenizer_init


def _entry(model: str) -> dict[str, Any]:
    # The same id in every process of a router, and after a restart.
    number = uuid.uuid5(uuid.NAMESPACE_URL, f"tokenizer {model}")
    return {"id": str(number), "name": model, "source": "the model's servers", "vocab_size": None}
