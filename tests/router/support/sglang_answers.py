"""What an SGLang 0.5.17 server answers on the paths that are passed to it, in its form (the contents are made up)."""

from collections.abc import Callable, Mapping
from typing import Any

NO_ENGINE = ("/tokenize", "/detokenize", "/v1/messages/count_tokens", "/separate_reasoning", "/parse_function_call")


def of_http_process(path: str, asked: Mapping[str, Any]) -> tuple[int, Any]:
    """Status and answer on a path of `NO_ENGINE` but those of the tokenizer, which `fakes` has."""
    if path == "/v1/messages/count_tokens":
        if not asked.get("messages"):
            return 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "messages: required"}}
        return 200, {"input_tokens": len(str(asked["messages"]))}
    parser = asked.get("reasoning_parser") or asked.get("tool_call_parser")
    if parser not in ("qwen3", "qwen25"):
        return 500, "Internal Server Error"  # a ValueError that nothing catches
    if path == "/separate_reasoning":
        thought, _, said = asked["text"].removeprefix("<think>").partition("</think>")
        return 200, {"reasoning_text": thought, "text": said}
    called = [{"tool_index": 0, "name": tool["function"]["name"], "parameters": "{}"} for tool in asked["tools"]]
    return 200, {"normal_text": asked["text"], "calls": called}


def of_engine(path: str, asked: Mapping[str, Any]) -> Any:
    """The answer on a path that needs the engine; None where SGLang has no such path."""
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    named = {"model": asked.get("model", "default"), "usage": usage}
    answers: dict[str, Callable[[], Any]] = {
        "/v1/embeddings": lambda: {
            "object": "list",
            "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
            **named,
        },
        "/encode": lambda: {"embedding": [0.5], "meta_info": {"id": "x", "prompt_tokens": 2}},
        "/classify": lambda: {"embedding": [0.5], "meta_info": {"id": "x", "prompt_tokens": 2}},
        "/v1/classify": lambda: {
            "id": "classify-1",
            "object": "list",
            "data": [{"index": 0, "label": "A", "probs": [1.0], "num_classes": 1}],
            **named,
        },
        "/v1/score": lambda: {"scores": [[0.5]], "object": "scoring", **named},
        "/v1/rerank": lambda: [{"score": 0.5, "document": "a", "index": 0, "meta_info": {}}],
        "/v1/messages": lambda: {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": "one"}],
            "model": asked.get("model"),
            "stop_reason": "end_turn",
            "usage": {"input_tokens": 2, "output_tokens": 1},
        },
        "/v1/responses": lambda: response(asked.get("request_id", "resp_own"), asked),
    }
    return answers[path]() if path in answers else None


def response(number: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """A complete response of `/v1/responses`."""
    text = {"type": "output_text", "text": "one", "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    return {
        "id": number,
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": asked.get("model"),
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


def message_events() -> bytes:
    """A stream of `/v1/messages`, byte for byte."""
    events = (
        ("message_start", '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant",'
         '"content":[],"model":"m","usage":{"input_tokens":2,"output_tokens":0}}}'),
        ("content_block_start",
         '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}'),
        ("content_block_delta",
         '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"one"}}'),
        ("content_block_stop", '{"type":"content_block_stop","index":0}'),
        ("message_delta",
         '{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}'),
        ("message_stop", '{"type":"message_stop"}'),
    )  # fmt: skip
    return "".join(f"event: {name}\ndata: {data}\n\n" for name, data in events).encode()
