"""Requests that end an SGLang 0.5.17 server, or that it answers with 500: with the overlay they get a 400."""

import json
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import pytest

from tests.e2e.servers import MODEL, RANDOM, TIMEOUT, Servers, generate, overlay_state, post, wait_for

IDS = {"input_ids": [1, 2, 3]}
OF_NAMED = "output_token_ids_logprobs"
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "an id above the vocabulary": ({"input_ids": [5, 10**8]}, "token ids must be from 0"),
    "a negative id": ({"input_ids": [-1]}, "token ids must be from 0"),
    "more logprobs than there is room": ({**IDS, "return_logprob": True, "top_logprobs_num": 129}, "from 0 to 128"),
    "logprobs from nowhere": ({**IDS, "return_logprob": True, "logprob_start_len": -7}, "`logprob_start_len` must be"),
    "a sampling mask": ({**IDS, "return_sampling_mask": True}, "`return_sampling_mask` is not available"),
}
BAD_SAMPLING: dict[str, tuple[dict[str, Any], str]] = {
    "a huge top_k": ({"top_k": 10**12}, "`top_k` must be from"),
    "a huge seed": ({"sampling_seed": 2**63}, "`sampling_seed` must be from"),
    "a bias list": ({"logit_bias": [1]}, "`logit_bias` does not fit"),
    "a word as bias": ({"logit_bias": {"5": "x"}}, "`logit_bias` does not fit"),
    "a broken pattern": ({"stop_regex": "("}, "no regular expression"),
    "an unknown name": ({"beam_width": 3}, "knows no 'beam_width'"),
    "a word as number": ({"max_new_tokens": "x"}, "`max_new_tokens` does not fit"),
    "several samples": ({"n": "x"}, "`n` must be"),
    "a bias for no token": ({"logit_bias": {"49152": 1}}, "`logit_bias`: token ids must be from 0 to 49151"),
    "a search without an end": ({"stop_regex": "(a+)+$"}, "repeats a part that itself repeats"),
    "too many stops": ({"stop": ["x"] * 2000}, "`stop` must have at most 1024 entries"),
    "a field of SGLang's own": ({"is_normalized": True}, "knows no 'is_normalized'"),
    "a schema that is no text": ({"json_schema": {"type": "object"}}, "`json_schema` does not fit"),
    "a temperature beyond float32": ({"temperature": 1e39}, "`temperature` must be from 0"),
    "a minimum beyond int32": ({"min_new_tokens": 2**31, "max_new_tokens": None}, "`min_new_tokens` must be from 0"),
}


@pytest.mark.parametrize("case", [*BAD, *BAD_SAMPLING])
def test_a_bad_value_is_named_and_the_servers_stay(servers: Servers, case: str) -> None:
    sampling, words = BAD_SAMPLING.get(case, ({}, ""))
    body, words = BAD.get(case, (IDS, words))
    answer = post(
        f"{servers.router}/generate", {"model": MODEL, **body, "sampling_params": {"max_new_tokens": 2, **sampling}}
    )
    assert answer.status_code == 400, answer.text
    assert words in answer.json()["error"]["message"]
    assert len(generate(servers.router, "Still here", 2, sampling_params={"ignore_eos": True})["output_ids"]) == 2


def test_what_only_looks_odd_is_taken(servers: Servers) -> None:
    odd = {"top_k": 5.0, "temperature": 1, "frequency_penalty": None, "stop": ["x"], "logit_bias": {"7": 1}}
    odd |= {"ignore_eos": True, "custom_params": {"mine": 1}}
    assert len(generate(servers.router, "Odd", 2, sampling_params=odd)["output_ids"]) == 2


FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}}
LOOP = json.dumps({"$ref": "#"})
# Parameters by their names in OpenAI's API, and what the refusal says.
ENDING: dict[str, list[tuple[dict[str, Any], str]]] = {
    "2.logit_bias_1e39": [({"logit_bias": {"5": sign * 1e39}}, "`logit_bias`") for sign in (1, -1)],
    "2.min_tokens_1_stop_999999999": [({"min_tokens": 1, "stop_token_ids": [999999999]}, "`stop_token_ids`")],
    "2.min_tokens_1_stop_-1": [({"min_tokens": 1, "stop_token_ids": [-1]}, "`stop_token_ids`")],
    "2.json_schema_selfref": [
        (
            {"response_format": FORMAT},
            "accepts no",
        ),
        ({"json_schema": LOOP}, "accepts no"),
        ({"regex": r"[^\s\S]"}, "accepts no"),
        ({"ebnf": "root ::= root"}, "accepts no"),
    ],
    "2.rep_penalty_1e-40": [({"repetition_penalty": value}, "`repetition_penalty`") for value in (1e-40, 1e-38)],
    "2.top_k_generate": [({"top_k": value}, "`top_k`") for value in (-5, 0)],
    "2.stop_ids_alone": [({"stop_token_ids": [value]}, "`stop_token_ids`") for value in (-1, 999999999, 2**62)],
}
CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def native(params: dict[str, Any]) -> dict[str, Any] | None:
    """The request for `/generate` with the same parameters, where it has them."""
    if "response_format" in params:
        return None
    renamed = {"min_tokens": "min_new_tokens"}
    sampling = {renamed.get(name, name): value for name, value in params.items()}
    return {"model": MODEL, **IDS, "sampling_params": {"max_new_tokens": 4, **sampling}}


def refused(answer: Any, words: str) -> None:
    assert answer.status_code == 400, answer.text
    assert words in answer.text
    assert ".py" not in answer.text


@pytest.mark.case(
    "2.logit_bias_1e39",
    "2.min_tokens_1_stop_999999999",
    "2.min_tokens_1_stop_-1",
    "2.json_schema_selfref",
    "2.rep_penalty_1e-40",
    "2.top_k_generate",
    "2.stop_ids_alone",
)
@pytest.mark.parametrize("case", ENDING)
def test_public_case_requests_that_ended_a_server(servers: Servers, case: str) -> None:
    """The router refuses them, and so does a server that gets them from elsewhere."""
    for params, words in ENDING[case]:
        # SGLang's chat has `response_format` for schemas, and no `json_schema`.
        requests = [] if "json_schema" in params else [("/v1/chat/completions", {**CHAT, **params})]
        if (body := native(params)) is not None:
            requests.append(("/generate", body))
        for path, body in requests:
            refused(post(f"{servers.router}{path}", body), words.replace("accepts no", "accepts nothing"))
            refused(decode_of_a_pair(servers, path, body), words)
    assert len(generate(servers.router, "Still here", 2, sampling_params={"ignore_eos": True})["output_ids"]) == 2


@pytest.mark.parametrize("name", ["return_hidden_states", "return_logprob", "extra_key"])
def test_a_list_of_values_for_one_prompt(servers: Servers, name: str) -> None:
    """`return_hidden_states: []` passed SGLang's checks, and ended both servers."""
    for value in ([], [False], ["a"]):
        body = {"model": MODEL, **IDS, name: value, "sampling_params": {"max_new_tokens": 2}}
        refused(post(f"{servers.router}/generate", body), f"`{name}` must be one value")
        answer = decode_of_a_pair(servers, "/generate", body)
        assert answer.status_code in {400, 422}, answer.text  # the latter where the type does not fit either
        assert name in answer.text
    assert len(generate(servers.router, "Still here", 2, sampling_params={"ignore_eos": True})["output_ids"]) == 2


def decode_of_a_pair(servers: Servers, path: str, body: dict[str, Any]) -> Any:
    """What decode answers when both servers get a request, dispatched by hand."""
    room = {"bootstrap_host": "127.0.0.1", "bootstrap_port": servers.bootstrap_port}
    sent = {**body, **room, "bootstrap_room": RANDOM.getrandbits(62)}
    with ThreadPoolExecutor(2) as pool:
        legs = [pool.submit(post, f"{base}{path}", sent) for base in (servers.prefill, servers.decode)]
        return [leg.result() for leg in legs][1]


def test_named_tokens_beside_other_requests(servers: Servers) -> None:
    """A request for the log-probabilities of named tokens ended each server that had another one in its batch."""
    asked = {"return_logprob": True, "token_ids_logprob": [5, 7]}

    def named(base: str) -> list[Any]:
        answer = generate(base, "Named tokens", 4, sampling_params={"ignore_eos": True}, **asked)
        return [[(token, round(value, 2)) for value, token, _ in row] for row in answer["meta_info"][OF_NAMED]]

    alone = named(servers.router)
    assert [[token for token, _ in row] for row in alone] == [[5, 7]] * 4
    with ThreadPoolExecutor(3) as pool:
        others = [
            pool.submit(generate, servers.router, topic, 300, sampling_params={"ignore_eos": True}, **fields)
            for topic, fields in (("One", {}), ("Two", {"return_logprob": True}), ("Three", {"top_logprobs_num": 2}))
        ]
        assert wait_for(lambda: overlay_state(servers.decode)["requests"]["running"] == 3)
        beside = [named(servers.router) for _ in range(3)]
        assert [len(other.result()["output_ids"]) for other in others] == [300] * 3
    assert beside == [alone] * 3


def test_a_grammar_may_end_before_the_least_number_of_tokens(servers: Servers) -> None:
    for temperature in (0, 1):
        sampling = {"regex": "a", "min_new_tokens": 4, "max_new_tokens": 8, "temperature": temperature}
        found = generate(servers.router, [1, 2, 3], 8, sampling_params=sampling)
        assert found["text"].strip() == "a"
        assert found["meta_info"]["finish_reason"]["type"] == "stop"


@pytest.mark.parametrize("path", ["/generate", "/v1/completions", "/v1/chat/completions"])
def test_a_stream_that_is_refused_is_a_400(servers: Servers, path: str) -> None:
    prompt = {"prompt": "Hi"} if path == "/v1/completions" else CHAT
    body: dict[str, Any] = {**prompt, "regex": "("}
    if path == "/generate":
        body = {**IDS, "sampling_params": {"regex": "("}}
    refused(post(f"{servers.router}{path}", {"model": MODEL, "stream": True, **body}), "parenthesis is not closed")


def test_a_room_in_use_is_refused_and_no_client_chooses_one(servers: Servers) -> None:
    room: dict[str, Any] = {"bootstrap_host": "127.0.0.1", "bootstrap_port": servers.bootstrap_port}
    body = {**IDS, "sampling_params": {"max_new_tokens": 8, "ignore_eos": True, "temperature": 0}}
    with ThreadPoolExecutor(3) as pool:
        for base, other in [(servers.prefill, servers.decode), (servers.decode, servers.prefill)]:
            room["bootstrap_room"] = RANDOM.getrandbits(62)
            # Neither can end before the other server has its own: so the first to end is the one refused.
            twice = [pool.submit(post, f"{base}/generate", {**body, **room}) for _ in range(2)]
            ended, waiting = wait(twice, TIMEOUT, FIRST_COMPLETED)
            refused(ended.pop().result(), "`bootstrap_room` is in use")
            answers = [pool.submit(post, f"{other}/generate", {**body, **room}), *waiting]
            assert [answer.result().status_code for answer in answers] == [200, 200]
    for name, value in room.items():
        answer = post(f"{servers.router}/generate", {"model": MODEL, **body, name: value})
        refused(answer, f"`{name}` is set by the router alone")
    assert "processes" in overlay_state(servers.decode)
