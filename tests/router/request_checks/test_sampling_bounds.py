"""Sampling fields that would end a server of SGLang, refused by the router; the rest is left to the servers."""

import math
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import BadRequest
from router.request_checks import sampling_bounds
from router.request_checks.batches import ONE_FOR_A_PROMPT
from router.request_checks.pair_request import check_pair_request
from router.request_checks.sampling_bounds import check_sampling
from sglang_ext.fixes import request_guard

CHAT, COMPLETIONS, GENERATE = "/v1/chat/completions", "/v1/completions", "/generate"
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("logit_bias", {"logit_bias": {"5": 1e39}}),
    ("logit_bias", {"logit_bias": {"5": -1e39}}),
    ("logit_bias", {"logit_bias": {"5": math.inf}}),
    ("logit_bias", {"logit_bias": {"5": math.nan}}),
    ("logit_bias", {"logit_bias": {"5": "inf"}}),
    ("logit_bias", {"logit_bias": {"-1": 1}}),
    ("logit_bias", {"logit_bias": {"999999999": 1}}),
    ("logit_bias", {"logit_bias": {"word": 1}}),
    ("stop_token_ids", {"stop_token_ids": [-1]}),
    ("stop_token_ids", {"stop_token_ids": [999999999]}),
    ("stop_token_ids", {"stop_token_ids": [2**62]}),
    ("stop_token_ids", {"min_tokens": 1, "stop_token_ids": [2**70]}),
    ("repetition_penalty", {"repetition_penalty": 1e-40}),
    ("repetition_penalty", {"repetition_penalty": 1e-38}),
    ("repetition_penalty", {"repetition_penalty": math.nan}),
    ("temperature", {"temperature": 1e39}),
    ("temperature", {"temperature": math.inf}),
    ("top_k", {"top_k": 0}),
    ("top_k", {"top_k": -5}),
    ("top_k", {"top_k": 2**31}),
    ("min_tokens", {"min_tokens": 2**31}),
    ("seed", {"seed": 2**63}),
    ("stream_interval", {"stream_interval": 0}),
    ("json_schema", {"json_schema": '{"$ref":"#"}'}),
    ("json_schema", {"json_schema": '{"allOf":[{"$ref":"#"}]}'}),
    ("json_schema", {"json_schema": '{"$ref":"#/a","a":{"$ref":"#/b"},"b":{"$ref":"#/a"}}'}),
    ("json_schema", {"json_schema": '{"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]}'}),
    ("json_schema", {"json_schema": "false"}),
    ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}}),
    ("regex", {"regex": r"[^\s\S]"}),
    ("regex", {"regex": r"a[^\x00-\U0010ffff]"}),
    ("regex", {"regex": r"([^\d\D]|[^\w\W])+"}),
    ("ebnf", {"ebnf": "root ::= root"}),
    ("ebnf", {"ebnf": 'root ::= "a" []'}),
    ("ebnf", {"ebnf": 'root ::= "a" other\nother ::= "b" other | root'}),
    ("ebnf", {"ebnf": 'root ::= ("a" root)+ # for ever'}),
]
TAKEN: list[dict[str, Any]] = [
    {},
    {"logit_bias": {"5": -100, "7": 100.0}, "stop_token_ids": [0, 49151], "repetition_penalty": 2, "top_k": -1},
    {"temperature": 0, "top_k": 1, "min_tokens": 0, "seed": -5, "max_tokens": 1},
    {"logit_bias": None, "stop_token_ids": None, "repetition_penalty": None, "top_k": None, "temperature": None},
    {"json_schema": '{"type":"object","properties":{"child":{"$ref":"#"}}}'},
    {"json_schema": '{"anyOf":[{"$ref":"#"},{"type":"null"}]}'},
    {"json_schema": '{"type":"array","items":{"$ref":"#"}}'},
    {"json_schema": "not JSON"},
    {"json_schema": '{"$ref":"http://example.org/x"}'},
    {"regex": r"[^\s]+"},
    {"regex": r"(a|[^\s\S])b"},
    {"regex": r"([^\s\S])*x"},
    {"regex": "("},
    {"ebnf": 'root ::= "a" root | "b"'},
    {"ebnf": "root ::= item*\nitem ::= item"},
    {"ebnf": 'root ::= item{0,3} [a-z]\nitem ::= item "x"'},
    {"ebnf": "root ::= undefined"},
    {"ebnf": "root ::= <odd>"},
    {"response_format": {"type": "json_object"}},
]


@pytest.mark.parametrize("name", ["MAX_BIAS", "MIN_REPETITION_PENALTY", "MAX_TEMPERATURE"])
def test_the_router_and_the_overlay_have_the_same_limits(name: str) -> None:
    assert getattr(sampling_bounds, name) == getattr(request_guard, name)


@pytest.mark.parametrize(("field", "params"), REFUSED, ids=str)
def test_what_ends_a_server_is_refused_by_its_name(field: str, params: dict[str, Any]) -> None:
    for body, path in (
        (params, CHAT),
        (params, COMPLETIONS),
        ({"sampling_params": params}, GENERATE),
        ({"text": ["a", "b"], "sampling_params": [{}, params]}, GENERATE),
    ):
        with pytest.raises(BadRequest, match=f"^`{field}` "):
            check_sampling(body, path)


@pytest.mark.parametrize("name", ONE_FOR_A_PROMPT)
@pytest.mark.parametrize("value", [[], [True], [[1]]], ids=str)
def test_one_prompt_has_no_list_of_values(name: str, value: list[Any]) -> None:
    """`return_hidden_states: []` ended both servers of a pair."""
    for one in ({"text": "a"}, {"input_ids": [1, 2]}, {"input_embeds": [[0.1], [0.2]]}, {}):
        for path in (GENERATE, "/encode", "/classify"):
            with pytest.raises(BadRequest, match=f"^`{name}` must be one value, since"):
                check_sampling({**one, name: value}, path)
    check_sampling({"prompt": "a", name: value}, COMPLETIONS)


@pytest.mark.parametrize("name", [*ONE_FOR_A_PROMPT, "token_ids_logprob"])
def test_a_batch_has_a_value_for_each_prompt(name: str) -> None:
    """SGLang looks for one for each, and answers 500 where there are fewer."""
    value: Any = [[1], [2]] if name == "token_ids_logprob" else [{}, {}] if name == "sampling_params" else [True, True]
    for batch in ({"text": ["a", "b"]}, {"input_ids": [[1], [2]]}, {"input_embeds": [[[0.1]], [[0.2]]]}):
        check_sampling({**batch, name: value}, GENERATE)
        with pytest.raises(BadRequest, match=f"^`{name}` must be one value, or one for each of the 2 prompts; got 1"):
            check_sampling({**batch, name: value[:1]}, GENERATE)


def test_sampling_parameters_beside_what_is_embedded() -> None:
    """An embedding server reads them too, and one ends it."""
    with pytest.raises(BadRequest, match=r"^`top_k` must be"):
        check_sampling({"text": "a", "sampling_params": {"top_k": 2**40}}, "/encode")


@pytest.mark.parametrize("stock", [True, False])
def test_labels_of_metrics(stock: bool) -> None:
    """One that a server does not know ends it; with the overlay it says so."""
    fields = {"text": "a", "custom_labels": {"a": "b"}}
    with pytest.raises(BadRequest, match=r"^`custom_labels` is not taken") if stock else nullcontext():
        check_pair_request(fields, GENERATE, stock=stock)


@pytest.mark.parametrize("params", TAKEN, ids=str)
def test_what_is_harmless_is_left_to_the_server(params: dict[str, Any]) -> None:
    check_sampling(params, CHAT)
    check_sampling({"sampling_params": params}, GENERATE)


@pytest.mark.case("9.max_tokens_0")
def test_public_case_scoring_without_a_new_token() -> None:
    with pytest.raises(BadRequest, match="`max_tokens` must be at least 1; to score a prompt"):
        check_sampling({"prompt": "The sky is", "echo": True, "logprobs": 1, "max_tokens": 0}, COMPLETIONS)


def test_echo_with_no_likely_tokens() -> None:
    with pytest.raises(BadRequest, match="`logprobs` must be at least 1 with `echo`"):
        check_sampling({"prompt": "x", "echo": True, "logprobs": 0}, COMPLETIONS)
    check_sampling({"prompt": "x", "logprobs": 0}, COMPLETIONS)


def test_servers_without_the_overlay_get_no_grammar_with_a_minimum() -> None:
    for grammar in ({"regex": "a"}, {"json_schema": "{}"}, {"response_format": {"type": "json_object"}}):
        check_sampling({"min_tokens": 2, **grammar}, CHAT)
        check_sampling({"min_tokens": 0, **grammar}, CHAT, stock=True)
        with pytest.raises(BadRequest, match="`min_tokens` and a grammar"):
            check_sampling({"min_tokens": 2, **grammar}, CHAT, stock=True)
    check_sampling({"min_tokens": 2, "response_format": {"type": "text"}}, CHAT, stock=True)


names = st.sampled_from(
    ["logit_bias", "stop_token_ids", "temperature", "top_k", "seed", "json_schema", "regex", "ebnf", "response_format"]
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@given(st.dictionaries(names, values))
def test_any_value_is_taken_or_refused(params: dict[str, Any]) -> None:
    for body, path in ((params, CHAT), ({"sampling_params": params}, GENERATE)):
        try:
            check_sampling(body, path)
        except BadRequest as error:
            assert str(error).startswith("`")  # noqa: PT017 - either outcome is right


def test_a_long_chain_of_references_is_read_in_linear_time() -> None:
    chain = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(9_000)}
    schema = {"$ref": "#/$defs/d0", "$defs": {**chain, "d9000": {"$ref": "#/$defs/d0"}}}
    with pytest.raises(BadRequest, match="refers to itself"):
        check_sampling({"response_format": {"json_schema": {"schema": schema}}}, CHAT)
