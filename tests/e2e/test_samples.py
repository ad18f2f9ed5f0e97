"""Requests for several samples (`n`) through a pair are answered as one plain server answers them."""

import json
import re
from typing import Any

import httpx
import pytest

from tests.e2e.servers import MODEL, TIMEOUT, Servers, is_quiet, long_text, post, wait_for

N = 3
MESSAGES = [{"role": "user", "content": "Name a colour."}]
TEXTS = ["The sky is", "Once upon a time there was a king"]
GREEDY = {"temperature": 0, "max_tokens": 6}
NATIVE = {"temperature": 0, "max_new_tokens": 6, "n": N}
LOGPROBS = {"return_logprob": True, "logprob_start_len": 0, "top_logprobs_num": 2}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": MESSAGES, "n": N, **GREEDY, "logprobs": True, "top_logprobs": 2}),
    "completion": ("/v1/completions", {"prompt": TEXTS[0], "n": N, **GREEDY}),
    "completions": ("/v1/completions", {"prompt": TEXTS, "n": N, **GREEDY, "echo": True, "logprobs": 2, "seed": 3}),
    "token ids": ("/v1/completions", {"prompt": [[400, 401, 402], [900, 905]], "n": 2, **GREEDY, "echo": True}),
    "generate": ("/generate", {"text": TEXTS[0], "sampling_params": NATIVE, **LOGPROBS}),
    "generates": ("/generate", {"text": TEXTS, "sampling_params": [NATIVE, NATIVE]}),
}
# What is of a server or a moment, or counts otherwise on a pair: the prompt comes from another server.
OF_PAIRS = re.compile(
    r"cached|latency|time|_ts|throughput|queue|dp_rank|id$|created|model$|disagg|prefill|decode|spec_"
)


def ask(base: str, kind: str, model: str = MODEL) -> Any:
    path, body = KINDS[kind]
    answer = post(f"{base}{path}", {"model": model, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stream(base: str, kind: str) -> list[dict[str, Any]]:
    path, body = KINDS[kind]
    body = {"model": MODEL, **body, "stream": True}
    if path != "/generate":
        body["stream_options"] = {"include_usage": True}
    with httpx.stream("POST", f"{base}{path}", json=body, timeout=TIMEOUT) as response:
        assert response.headers["content-type"].startswith("text/event-stream"), response.read()
        lines = [line for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    assert lines.count("data: [DONE]") == 1
    return [json.loads(line[6:]) for line in lines[:-1]]


def same(ours: Any, plain: Any, name: str = "") -> None:
    """Equal, apart from rounding and what is of a server or a moment."""
    if isinstance(plain, float):
        assert ours == pytest.approx(plain, abs=2e-3), name
    elif isinstance(plain, dict):
        compared = [key for key in plain if not OF_PAIRS.search(key)]
        assert set(compared) <= ours.keys(), name
        for key in compared:
            same(ours[key], plain[key], f"{name}.{key}")
    elif isinstance(plain, list):
        assert len(ours) == len(plain), name
        for number, each in enumerate(plain):
            same(ours[number], each, f"{name}[{number}]")
    else:
        assert ours == plain, name


@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_response_is_a_plain_servers(pair: Servers, kind: str) -> None:
    same(ask(pair.router, kind, pair.model), ask(pair.plain, kind))


def pieces(events: list[dict[str, Any]]) -> tuple[dict[int, dict[str, Any]], Any]:
    """What the events of each index say, put together, and the usage."""
    found: dict[int, dict[str, Any]] = {}
    usage = None
    for event in events:
        usage = event.get("usage") or usage
        for choice in event.get("choices", ()):
            each = found.setdefault(choice["index"], {"text": "", "tokens": [], "reason": None})
            each["text"] += choice.get("text") or choice.get("delta", {}).get("content") or ""
            logprobs = choice.get("logprobs") or {}
            each["tokens"] += logprobs.get("tokens") or [entry["token"] for entry in logprobs.get("content") or ()]
            each["reason"] = choice["finish_reason"] or each["reason"]
        if "choices" not in event:
            found[event["index"]] = {key: event[key] for key in ("text", "output_ids")}
            reason, prompt = event["meta_info"]["finish_reason"], event["meta_info"].get("input_token_logprobs")
            found[event["index"]] |= {"reason": reason and reason["type"], "prompt": [each[1] for each in prompt or ()]}
    return found, usage


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_is_a_plain_servers(servers: Servers, kind: str) -> None:
    events = stream(servers.router, kind)
    (ours, our_usage), (plain, usage) = pieces(events), pieces(stream(servers.plain, kind))
    assert ours.keys() == plain.keys()
    assert ours == plain
    same(our_usage, usage)
    if "choices" in events[0]:
        assert len({event["id"] for event in events}) == 1


def test_samples_differ(servers: Servers) -> None:
    body = {"model": MODEL, "prompt": "Once", "n": 4, "temperature": 2, "max_tokens": 24, "seed": 5, "ignore_eos": True}
    answer = post(f"{servers.router}/v1/completions", body).json()
    assert len({choice["text"] for choice in answer["choices"]}) == 4
    assert answer["usage"]["completion_tokens"] >= 4


def test_prefill_computes_the_prompt_once(servers: Servers) -> None:
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode))
    before = len(servers.prefill_log.read_text(errors="replace"))
    prompt = long_text("Samples", 30)
    params = {"n": 8, "max_new_tokens": 2, "temperature": 0}
    answers = post(f"{servers.router}/generate", {"model": MODEL, "text": prompt, "sampling_params": params}).json()
    assert len(answers) == 8
    length = answers[0]["meta_info"]["prompt_tokens"]

    def computed() -> int:
        told = servers.prefill_log.read_text(errors="replace")[before:]
        return sum(map(int, re.findall(r"#new-token: (\d+)", told)))

    assert wait_for(lambda: computed() >= length)
    assert computed() < 2 * length, "the others found it in the cache"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_leaves_frees_both_servers(servers: Servers, *, streamed: bool) -> None:
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode))
    params = {"n": 3, "max_new_tokens": 1000, "ignore_eos": True}
    body = {"model": MODEL, "text": f"Leaving {streamed}", "stream": streamed, "sampling_params": params}
    if streamed:
        with httpx.stream("POST", f"{servers.router}/generate", json=body, timeout=TIMEOUT) as response:
            seen = set()
            for line in response.iter_lines():
                if line:
                    seen.add(json.loads(line[6:])["index"])
                if len(seen) == 3:
                    break
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{servers.router}/generate", json=body, timeout=httpx.Timeout(3.0))
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode))


def test_what_a_pair_refuses_it_refuses_once(servers: Servers) -> None:
    body = {"model": MODEL, "text": "Hi", "sampling_params": {"n": 3, "regex": "("}}
    answer = post(f"{servers.router}/generate", body)
    assert answer.status_code == 400
    assert "parenthesis" in answer.json()["error"]["message"]
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode))
