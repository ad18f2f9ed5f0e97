"""The responses of the fake servers, the same from nginx and from Python."""

from typing import Literal

import orjson

Role = Literal["prefill", "decode", "plain"]

MODEL = "fake"
GENERATED = orjson.dumps({"text": "one two", "meta_info": {"id": "0", "finish_reason": {"type": "stop", "matched": 2}}})
# About the size of one streamed token in SGLang's OpenAI format.
EVENT = b"data: " + orjson.dumps(
    {
        "id": "0" * 32,
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": MODEL,
        "choices": [{"index": 0, "delta": {"content": " token"}, "logprobs": None, "finish_reason": None}],
        "usage": None,
    }
)
DONE = b"data: [DONE]"


def fake_roles(plain: bool) -> tuple[Role, Role]:
    """What the two fake servers are."""
    return ("plain", "plain") if plain else ("prefill", "decode")


def worker_info(role: Role) -> dict[str, bytes]:
    """Responses to GET, by path: all that either router asks a worker before it sends requests to it."""
    mode = "null" if role == "plain" else role
    server = orjson.dumps(
        {"served_model_name": MODEL, "disaggregation_mode": mode, "version": "0.5.17", "tp_size": 1, "dp_size": 1}
    )
    model = orjson.dumps({"served_model_name": MODEL, "is_generation": True})
    return {
        "/health": b"{}",
        "/server_info": server,
        "/get_server_info": server,
        "/model_info": model,
        "/get_model_info": model,
        "/v1/models": orjson.dumps({"object": "list", "data": [{"id": MODEL, "object": "model"}]}),
    }
