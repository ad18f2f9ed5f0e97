"""Requests that end an SGLang 0.5.17 server, or that it answers with 500: with the overlay they get a 400."""

from typing import Any

import pytest

from tests.e2e.servers import MODEL, Servers, generate, post

IDS = {"input_ids": [1, 2, 3]}
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
