"""`python -m sglang.launch_server`: answers in SGLang's forms at once, whatever it is asked."""

import argparse
import json
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

CHOICE = {"index": 0, "finish_reason": "stop", "logprobs": None}
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}


def app_of(model: str, mode: str, bootstrap_port: int | None) -> FastAPI:
    """A server of one model; `mode` is `null`, `prefill` or `decode`."""
    app = FastAPI()
    about: dict[str, Any] = {
        "served_model_name": model,
        "model_path": model,
        "disaggregation_mode": mode,
        "version": "stand-in",
    }
    if bootstrap_port is not None:
        about["disaggregation_bootstrap_port"] = bootstrap_port
    of_model = {"model_path": model, "is_generation": True}
    told: dict[str, Any] = {
        "/server_info": about,
        "/get_server_info": about,
        "/model_info": of_model,
        "/get_model_info": of_model,
        "/v1/models": {"object": "list", "data": [{"id": model, "object": "model", "owned_by": "sglang"}]},
        "/get_load": [{"dp_rank": 0, "num_reqs": 0, "num_waiting_reqs": 0, "num_tokens": 0}],
    }
    for path, answer in told.items():
        app.get(path)(_always(answer))
    for path in ("/health", "/health_generate"):
        app.get(path)(_nothing)
    for path in ("/flush_cache", "/abort_request"):
        app.post(path)(_nothing)
    add_profiling(app)
    app.post("/generate")(_always({"text": "hi", "output_ids": [1], "meta_info": {"finish_reason": {"type": "stop"}}}))
    head = {"id": "r", "created": 1, "model": model, "usage": USAGE}
    message = {"role": "assistant", "content": "hi"}
    app.post("/v1/chat/completions")(
        _always({**head, "object": "chat.completion", "choices": [{**CHOICE, "message": message}]})
    )
    app.post("/v1/completions")(_always({**head, "object": "text_completion", "choices": [{**CHOICE, "text": "hi"}]}))
    return app


def add_profiling(app: FastAPI) -> None:
    """A profile is a file in the folder that the request names."""
    folders: list[Path] = []

    async def start(request: Request) -> Response:
        body = await request.body()
        folders.extend(map(Path, filter(None, [json.loads(body or "{}").get("output_dir")])))
        return Response("Start profiling.")

    async def stop(_: Request) -> Response:
        for folder in folders:
            (folder / "stand-in.trace.json").write_text("{}")
        folders.clear()
        return Response("Stop profiling.")

    app.post("/start_profile")(start)
    app.post("/stop_profile")(stop)


def _always(answer: Any) -> Any:
    async def endpoint(_: Request) -> Any:
        return answer

    return endpoint


async def _nothing(_: Request) -> Response:
    return Response()


def main() -> None:
    """Serve; flags that change nothing here are passed over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model-path", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=30000)
    parser.add_argument("--disaggregation-mode", default="null")
    parser.add_argument("--disaggregation-bootstrap-port", type=int)
    given, _ = parser.parse_known_args()
    app = app_of(given.model_path, given.disaggregation_mode, given.disaggregation_bootstrap_port)
    uvicorn.run(app, host=given.host, port=given.port, log_level="warning")


if __name__ == "__main__":
    main()
