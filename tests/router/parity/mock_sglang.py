"""A mock of an SGLang server for the rows: answers every path that a router may ask, and notes what it was asked."""

from http import HTTPStatus
from typing import Any, Literal

import orjson

from tests.router.support.fakes import Call, FakeServer, whole

MODEL = "mock-model"
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
OPEN = ("/health", "/health_generate", "/metrics")  # without a key
OPERATORS = ("/flush_cache", "/start_profile", "/stop_profile", "/abort_request")
METRICS = b"# TYPE sglang:num_running_reqs gauge\nsglang:num_running_reqs 0\n"


class MockServer(FakeServer):
    """One server.

    Args:
        name: What the rows call it; its `x-worker-id`.
        role: Of what it is half, or `null`.
        key: The API key that it wants.

    Attributes:
        fault: What requests that generate get: a status, `drop`, or None for an answer.
    """

    def __init__(self, name: str, role: Literal["prefill", "decode", "null"], key: str | None = None) -> None:
        super().__init__(self._handle)
        self.name = name
        self.role = role
        self.key = key
        self.fault: int | str | None = None

    async def _handle(self, call: Call) -> None:
        if self.key is not None and call.path not in OPEN and call.headers.get("authorization") != f"Bearer {self.key}":
            await self._say(call, {"error": "Unauthorized"}, HTTPStatus.UNAUTHORIZED)
        elif call.path in OPEN:
            await call.send(whole(METRICS if call.path == "/metrics" else b"", 200, ("content-type", "text/plain")))
        elif call.path in OPERATORS:
            await call.send(whole(b"done"))
        elif call.method == "GET":
            await self._say(call, self._told(call.path))
        elif call.path in ("/tokenize", "/detokenize", "/separate_reasoning", "/parse_function_call"):
            await self._say(call, _read(call.path))
        elif self.fault == "drop":
            call.drop()
        elif isinstance(self.fault, int):
            error = {"object": "error", "message": f"mock {self.fault}", "type": "X", "code": self.fault}
            await self._say(call, error, self.fault, ("retry-after", "7"))
        elif call.json.get("stream"):
            await call.stream({"id": "r", "choices": [{"index": 0, "delta": {"content": "hi"}}]})
            await call.done()
        else:
            # A prefill server of a pair tells of its own token, and with `echo` of the prompt's before it.
            tokens = 1 + (USAGE["prompt_tokens"] if self.role == "prefill" and call.json.get("echo") else 0)
            await self._say(call, _generated(call.path, call.json.get("n") or 1, tokens))

    def _told(self, path: str) -> Any:
        about = {"served_model_name": MODEL, "model_path": f"/models/{MODEL}", "version": "0.5.17"}
        if path in ("/server_info", "/get_server_info"):
            return {**about, "disaggregation_mode": self.role, "disaggregation_bootstrap_port": 8998}
        if path in ("/model_info", "/get_model_info"):
            return {**about, "is_generation": True}
        if path == "/v1/models":
            return {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
        if path == "/get_load":
            return [{"dp_rank": 0, "num_reqs": 0, "num_waiting_reqs": 0, "num_tokens": 0}]
        return {}

    async def _say(self, call: Call, value: Any, status: int = 200, *more: tuple[str, str]) -> None:
        headers = (("content-type", "application/json"), ("x-worker-id", self.name), *more)
        await call.send(whole(orjson.dumps(value), status, *headers))


def _read(path: str) -> Any:
    """What SGLang makes of text."""
    return {
        "/tokenize": {"tokens": [1, 2], "count": 2, "max_model_len": 512},
        "/detokenize": {"text": "hello"},
        "/separate_reasoning": {"reasoning_text": "a", "text": "b"},
        "/parse_function_call": {"normal_text": "x", "calls": []},
    }[path]


def _generated(path: str, count: int, tokens: int = 1) -> Any:
    """What a path that generates answers, in its form; `tokens` have log-probabilities."""
    head = {"id": "r", "created": 1, "model": MODEL, "usage": USAGE}
    choices: list[dict[str, Any]] = [{"index": index, "finish_reason": "stop"} for index in range(count)]
    if path == "/v1/chat/completions":
        for choice in choices:
            choice["message"] = {"role": "assistant", "content": "hi"}
        return {**head, "object": "chat.completion", "choices": choices}
    if path == "/v1/completions":
        for choice in choices:
            logprobs = {"tokens": ["hello"] * tokens, "text_offset": [-1] * tokens}
            logprobs |= {"token_logprobs": [None] * tokens, "top_logprobs": [None] * tokens}
            choice |= {"text": "hello", "logprobs": logprobs}
        return {**head, "object": "text_completion", "choices": choices}
    if path == "/v1/embeddings":
        return {**head, "object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]}
    if path == "/v1/classify":
        return {**head, "object": "list", "data": [{"index": 0, "label": "x", "probs": [1.0], "num_classes": 1}]}
    if path == "/v1/responses":
        return {**head, "object": "response", "status": "completed", "output": []}
    if path == "/v1/messages":
        return {**head, "type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}]}
    meta = {**USAGE, "finish_reason": {"type": "stop"}, "output_token_logprobs": [], "input_token_logprobs": []}
    return {"text": "hi", "output_ids": [1], "meta_info": meta}
