"""A real P/D pair over real NIXL behind the router, held against a plain server."""

import json
import math
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.e2e.servers import (
    MODEL,
    TIMEOUT,
    Servers,
    both_legs,
    generate,
    is_quiet,
    long_text,
    overlay_state,
    post,
    wait_for,
)

PROMPTS = [
    "The capital of France is",
    "Once upon a time there was",
    long_text("Chunked prefill", 30) + " The square of 31 is",
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=["short", "story", "longer than a prefill chunk"])
def test_greedy_output_equals_a_plain_server(servers: Servers, prompt: str) -> None:
    ours = generate(servers.router, prompt)
    plain = generate(servers.plain, prompt)
    assert ours["output_ids"] == plain["output_ids"]
    assert ours["text"] == plain["text"]
    again = generate(servers.router, prompt)
    assert again["output_ids"] == plain["output_ids"], "a cached prefix changed the answer"


def test_token_ids_in_token_ids_out(servers: Servers) -> None:
    ids = list(range(100, 160))
    assert generate(servers.router, ids)["output_ids"] == generate(servers.plain, ids)["output_ids"]


def test_streaming_gives_the_same_answer(servers: Servers) -> None:
    body = {
        "model": MODEL,
        "text": PROMPTS[0],
        "stream": True,
        "sampling_params": {"temperature": 0, "max_new_tokens": 24},
    }
    events = []
    with httpx.stream("POST", f"{servers.router}/generate", json=body, timeout=TIMEOUT) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        events = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    assert len(events) > 1
    assert json.loads(events[-2])["text"] == generate(servers.plain, PROMPTS[0])["text"]


def test_chat_template(servers: Servers) -> None:
    body = {
        "model": servers.model,
        "messages": [{"role": "user", "content": "What is the capital of Italy?"}],
        "temperature": 0,
        "max_tokens": 24,
    }
    ours, plain = (post(f"{base}/v1/chat/completions", body).json() for base in (servers.router, servers.plain))
    assert ours["choices"][0]["message"]["content"] == plain["choices"][0]["message"]["content"]
    # The template adds the default system prompt and the markers around both messages.
    assert ours["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"] > 20


def test_logprobs(servers: Servers) -> None:
    prompt = long_text("Log probability", 3)
    extra = {"return_logprob": True, "logprob_start_len": 0}
    ours = generate(servers.router, prompt, 12, **extra)["meta_info"]
    plain = generate(servers.plain, prompt, 12, **extra)["meta_info"]
    for key in ("input_token_logprobs", "output_token_logprobs"):
        assert [token for _, token, _ in ours[key]] == [token for _, token, _ in plain[key]]
        for (mine, _, _), (theirs, _, _) in zip(ours[key], plain[key], strict=True):
            assert mine == theirs or math.isclose(mine, theirs, abs_tol=1e-3)
    assert len(ours["output_token_logprobs"]) == 12


def test_chat_logprobs(servers: Servers) -> None:
    body = {
        "model": servers.model,
        "messages": [{"role": "user", "content": "Say hello."}],
        "temperature": 0,
        "max_tokens": 8,
        "logprobs": True,
    }
    tokens = post(f"{servers.router}/v1/chat/completions", body).json()["choices"][0]["logprobs"]["content"]
    assert 0 < len(tokens) <= 8
    assert all(token["logprob"] <= 0 for token in tokens)


CONSTRAINTS: dict[str, tuple[str, str]] = {
    "regex": ("(red|green|blue){2}", "(red|green|blue){2}"),
    "ebnf": ('root ::= "<" [0-9] [0-9] ">"', "<[0-9]{2}>"),
    # Without an object, since a small model may fill one with white space until it runs out of tokens.
    "json_schema": (json.dumps({"enum": ["red", "blue"]}), '"(red|blue)"'),
}


@pytest.mark.parametrize("kind", CONSTRAINTS)
def test_constrained_answers(servers: Servers, kind: str) -> None:
    constraint, shape = CONSTRAINTS[kind]
    ours, plain = (
        generate(base, "Answer:", 40, sampling_params={kind: constraint})["text"]
        for base in (servers.router, servers.plain)
    )
    assert re.fullmatch(shape, ours.strip()), ours
    assert ours == plain


def test_profile_of_a_server(servers: Servers, tmp_path: Path) -> None:
    wish = {"output_dir": str(tmp_path), "activities": ["CPU"], "with_stack": False}
    assert post(f"{servers.prefill}/start_profile", wish).status_code == 200
    generate(servers.router, PROMPTS[0], 2)
    assert post(f"{servers.prefill}/stop_profile", {}).status_code == 200
    assert wait_for(lambda: any(tmp_path.glob("*.json.gz")))
    assert len(generate(servers.router, PROMPTS[0], 2)["output_ids"]) == 2


def test_same_prefix_is_cached_on_both_sides(servers: Servers) -> None:
    prompt = long_text("Prefix cache", 12)
    first = both_legs(servers, prompt + " First.")
    second = both_legs(servers, prompt + " Second question.")
    assert [leg["meta_info"]["cached_tokens"] for leg in first] == [0, 0]
    shared = len(prompt) // 8
    assert all(leg["meta_info"]["cached_tokens"] > shared for leg in second)


def test_a_batch(servers: Servers) -> None:
    texts = [answer["text"] for answer in generate(servers.router, PROMPTS[:2], 8)]
    assert texts == [generate(servers.plain, prompt, 8)["text"] for prompt in PROMPTS[:2]]


def test_many_at_once(servers: Servers) -> None:
    prompts = [f"Number {i} times two is" for i in range(10)]
    with ThreadPoolExecutor(10) as pool:
        ours = list(pool.map(lambda prompt: _eight_tokens(servers, prompt), prompts))
    assert [len(ids) for ids in ours] == [8] * 10
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode))


def _eight_tokens(servers: Servers, prompt: str) -> list[int]:
    ids: list[int] = generate(servers.router, prompt, 8, sampling_params={"ignore_eos": True})["output_ids"]
    return ids


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_both_servers(servers: Servers, *, stream: bool) -> None:
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode))
    body = {
        "model": MODEL,
        "text": long_text(f"Leaving {stream}", 5),
        "stream": stream,
        "sampling_params": {"max_new_tokens": 1900, "ignore_eos": True},
    }
    if stream:
        with httpx.stream("POST", f"{servers.router}/generate", json=body, timeout=TIMEOUT) as response:
            lines = response.iter_lines()  # kept: without this iterator httpx closes the connection at once
            first = [next(lines) for _ in range(8)]
            assert wait_for(lambda: not is_quiet(servers.decode)), first
    else:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{servers.router}/generate", json=body, timeout=httpx.Timeout(2.0))
    # 1,900 tokens would take over a minute to decode.
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode)), (
        overlay_state(servers.prefill),
        overlay_state(servers.decode),
    )


def test_reserved_fields_of_a_client_are_refused(servers: Servers) -> None:
    for reserved in ({"bootstrap_host": "2.2.2.2"}, {"bootstrap_port": 1}, {"bootstrap_room": 7}):
        answer = post(f"{servers.router}/generate", {"model": MODEL, "text": PROMPTS[0], **reserved})
        assert answer.status_code == 400
        assert "is set by the router alone" in answer.json()["error"]["message"]


def test_prefill_without_a_partner_longer_than_a_chunk(servers: Servers) -> None:
    """Unpatched, this prefills the first 128 tokens again and again until the server dies."""
    prompt = long_text("Nobody fetches this", 40)
    body = {
        "text": prompt,
        "sampling_params": {"max_new_tokens": 1},
        "bootstrap_host": "2.2.2.2",
        "bootstrap_port": servers.bootstrap_port,
        "bootstrap_room": 1,
    }
    answer = httpx.post(f"{servers.prefill}/generate", json=body, timeout=TIMEOUT)
    assert answer.status_code == 200
    assert answer.json()["meta_info"]["prompt_tokens"] > 3 * 128
    assert wait_for(lambda: is_quiet(servers.prefill))
    assert generate(servers.router, prompt, 8)["output_ids"] == generate(servers.plain, prompt, 8)["output_ids"]


def test_a_request_both_servers_refuse(servers: Servers) -> None:
    body = {"model": MODEL, "text": "word " * 3000, "sampling_params": {"max_new_tokens": 1}}
    response = post(f"{servers.router}/generate", body)
    assert response.status_code == 400
    assert "longer than" in response.text
    assert wait_for(lambda: is_quiet(servers.prefill) and is_quiet(servers.decode))


def test_an_unknown_model(servers: Servers) -> None:
    response = post(f"{servers.router}/v1/completions", {"model": "gpt-0", "prompt": "Hi"})
    assert response.status_code == 404
    assert response.json()["error"]["message"] == "the model 'gpt-0' is not served here; served: smol, smol-paged."


def test_active_patches_show_in_the_server_info(servers: Servers) -> None:
    tokenizers = set()
    for base in (servers.prefill, servers.decode, servers.plain):
        state = overlay_state(base)
        assert state["unverified"] == []
        tokenizers.add(state["tokenizer"])
        assert {"scheduler", "tokenizer"} == state["processes"].keys()
        for process in state["processes"].values():
            assert "sglang.srt.managers.scheduler.Scheduler.on_idle" in process["patches"]
    workers = httpx.get(f"{servers.router}/workers", timeout=TIMEOUT).json()["workers"]
    tokenizers |= {worker["overlay"]["tokenizer"] for worker in workers}
    assert len(tokenizers) == 1, "all have the same tokenizer, whatever their model is called"
    assert None not in tokenizers
    assert [worker["role"] for worker in workers] == ["prefill"] * 2 + ["decode"] * 2
    assert all(worker["healthy"] and worker["overlay"]["version"] for worker in workers)
