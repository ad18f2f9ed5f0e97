"""Log-probabilities of prompts through a pair equal those of a plain server: only prefill computes them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from lm_eval.models.openai_completions import LocalCompletionsAPI

from tests.e2e.servers import MODEL, TIMEOUT, Servers, post

PROMPTS: dict[str, Any] = {
    "text": "The sky is",
    "ids": list(range(400, 412)),
    "texts": ["The sky is", "Once upon a time there was a king"],
    "lists of ids": [list(range(400, 412)), list(range(900, 905))],
}


def events(base: str, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with httpx.stream("POST", f"{base}{path}", json={**body, "stream": True}, timeout=TIMEOUT) as response:
        assert response.headers["content-type"].startswith("text/event-stream"), response.read()
        for line in response.iter_lines():
            if line.startswith("data: {"):
                yield json.loads(line[6:])


def whole(base: str, body: dict[str, Any]) -> dict[int, dict[str, list[Any]]]:
    answer = post(f"{base}/v1/completions", body)
    assert answer.status_code == 200, answer.text
    return {choice["index"]: {"text": choice["text"], **choice["logprobs"]} for choice in answer.json()["choices"]}


def streamed(base: str, body: dict[str, Any]) -> dict[int, dict[str, list[Any]]]:
    """The pieces of each choice, put together."""
    found: dict[int, dict[str, Any]] = {}
    for event in events(base, "/v1/completions", body):
        assert "error" not in event
        for choice in event["choices"]:
            so_far = found.setdefault(choice["index"], {"text": ""})
            so_far["text"] += choice["text"]
            for name, values in (choice["logprobs"] or {}).items():
                so_far[name] = so_far.get(name, []) + values
    return found


def same(ours: Any, plain: Any) -> None:
    """Equal, apart from rounding."""
    if isinstance(plain, float):
        assert ours == pytest.approx(plain, abs=2e-3)
    elif isinstance(plain, list | dict):
        assert len(ours) == len(plain)
        for key in plain if isinstance(plain, dict) else range(len(plain)):
            same(ours[key], plain[key])
    else:
        assert ours == plain


@pytest.mark.case("9.echo_logprobs")
@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("read", [whole, streamed])
def test_public_case_echo_with_logprobs(servers: Servers, kind: str, read: Any) -> None:
    body = {"model": MODEL, "prompt": PROMPTS[kind], "echo": True, "logprobs": 2, "max_tokens": 3, "temperature": 0}
    ours, plain = read(servers.router, body), read(servers.plain, body)
    assert ours.keys() == plain.keys() == set(range(2 if kind in {"texts", "lists of ids"} else 1))
    for index, choice in ours.items():
        assert choice["token_logprobs"][0] is None
        same(choice, plain[index])


@pytest.mark.case("9.stream_input_logprobs")
@pytest.mark.parametrize("batch", [False, True])
def test_public_case_streamed_generate(servers: Servers, batch: bool) -> None:
    text = PROMPTS["texts"] if batch else PROMPTS["text"]
    body = {"model": MODEL, "text": text, "return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": 2}
    body |= {"sampling_params": {"temperature": 0, "max_new_tokens": 3}}
    found = [list(events(base, "/generate", body)) for base in (servers.router, servers.plain)]
    last = [{event.get("index", 0): event["meta_info"] for event in each} for each in found]
    assert last[0].keys() == last[1].keys()
    for index, plain in last[1].items():
        for key in ("input_token_logprobs", "input_top_logprobs", "output_token_logprobs", "output_top_logprobs"):
            same(last[0][index][key], plain[key])
        assert len(plain["input_token_logprobs"]) == plain["prompt_tokens"]
    assert all(event["meta_info"]["input_token_logprobs"] for event in found[0]), "each event has them"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("start", [-1, 0])
def test_named_tokens_of_each_token(servers: Servers, stream: bool, start: int) -> None:
    """As without disaggregation: also of the first token of the answer, which prefill samples."""
    body = {"model": MODEL, "text": PROMPTS["texts"], "return_logprob": True, "logprob_start_len": start}
    body |= {"token_ids_logprob": [[5, 7], [9]], "sampling_params": {"temperature": 0, "max_new_tokens": 3}}
    if stream:
        found = [{e["index"]: e for e in events(base, "/generate", body)} for base in (servers.router, servers.plain)]
    else:
        found = [dict(enumerate(post(f"{b}/generate", body).json())) for b in (servers.router, servers.plain)]
    for index, plain in found[1].items():
        ours = found[0][index]["meta_info"]
        for key in ("output_token_logprobs", "output_token_ids_logprobs", "input_token_ids_logprobs"):
            same(ours.get(key), plain["meta_info"].get(key))
    assert len(found[0][0]["meta_info"]["output_token_ids_logprobs"]) == 3


def test_usage_of_a_stream_with_the_prompt_is_whole(servers: Servers) -> None:
    body = {"model": MODEL, "prompt": "The sky is", "echo": True, "logprobs": 1, "max_tokens": 2, "temperature": 0}
    body |= {"stream_options": {"include_usage": True}}
    last = list(events(servers.router, "/v1/completions", body))[-1]
    assert last["usage"]["completion_tokens"] == 2


def test_a_refused_request_for_them(servers: Servers) -> None:
    body = {"model": MODEL, "prompt": "The sky is", "echo": True, "logprobs": 1, "stream": True, "regex": "("}
    answer = post(f"{servers.router}/v1/completions", body)
    assert answer.status_code == 400
    assert "parenthesis" in answer.json()["error"]["message"]


@pytest.mark.case("12.lm_eval_loglikelihood")
def test_public_case_loglikelihood(servers: Servers, model_folder: Path) -> None:
    requests = [("The sky is", " blue"), ("The sky is", " a wooden chair"), ("Two and two make", " four")]

    def scores(base: str) -> list[tuple[float, bool]]:
        model = LocalCompletionsAPI(
            base_url=f"{base}/v1/completions",
            model=MODEL,
            tokenizer_backend="huggingface",
            tokenizer=str(model_folder),
            num_concurrent=1,
        )
        found: list[tuple[float, bool]] = model._loglikelihood_tokens(
            [(pair, model.tok_encode(pair[0]), model.tok_encode(pair[1])) for pair in requests]
        )
        return found

    ours, plain = scores(servers.router), scores(servers.plain)
    same([list(each) for each in ours], [list(each) for each in plain])
    assert all(score < 0 for score, _ in ours)
    assert ours[0][0] > ours[1][0], "blue is likelier than a wooden chair"
