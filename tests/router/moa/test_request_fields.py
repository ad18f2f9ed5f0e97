"""The table of fields covers the installed SGLang, and each of its entries holds."""

import dataclasses
import json
from typing import Any

import pytest

from router.agent_runs.agent_request import read_agent_request
from router.errors import BadRequest
from router.moa.request_fields import NATIVE_FIELDS, NATIVE_SAMPLING, OPENAI_FIELDS
from router.moa.tree import Tree
from router.moa.tree_files import load_trees
from router.moa.tree_request import read_tree_request

TREE: Tree = load_trees(None).trees[0]
MESSAGES = [{"role": "user", "content": "Name a colour"}]
CHAT: dict[str, Any] = {"messages": MESSAGES}
RUN: dict[str, Any] = {"run": "r", "agent": "a"}
VALUES: dict[str, Any] = {
    "temperature": 0.5, "top_p": 0.5, "top_k": 5, "min_p": 0.5, "frequency_penalty": 1.0, "presence_penalty": 1.0,
    "repetition_penalty": 1.5, "max_tokens": 7, "max_completion_tokens": 7, "min_tokens": 3, "seed": 4, "stop": ["x"],
    "stop_token_ids": [3], "stop_regex": "x", "no_stop_trim": True, "ignore_eos": True, "skip_special_tokens": True,
    "logit_bias": {"5": 1.0}, "chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "high",
    "reasoning": {"effort": "low"}, "enable_thinking": True,
}  # fmt: skip


@pytest.mark.servers
def test_every_field_of_sglang_has_an_entry() -> None:
    # Imported here: it takes seconds, and every process that shares the tests imports this module.
    from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest, CompletionRequest
    from sglang.srt.managers.io_struct import GenerateReqInput
    from sglang.srt.sampling.sampling_params import SamplingParams

    of_openai = {*ChatCompletionRequest.model_fields, *CompletionRequest.model_fields}
    assert of_openai - OPENAI_FIELDS.keys() == set()
    assert {each.name for each in dataclasses.fields(GenerateReqInput)} - NATIVE_FIELDS.keys() == set()
    assert set(SamplingParams.__struct_fields__) == NATIVE_SAMPLING.keys()


@pytest.mark.parametrize("name", [name for name, rule in OPENAI_FIELDS.items() if rule.tree == "final"])
def test_fields_of_the_final_agent(name: str) -> None:
    body = {**CHAT, "temperature": 0.1, name: VALUES[name]}
    expected = "max_tokens" if name == "max_completion_tokens" else name
    assert read_tree_request(body, "chat", TREE).sampling[expected] == VALUES[name]
    native = {"max_tokens": "max_new_tokens", "min_tokens": "min_new_tokens", "seed": "sampling_seed"}
    assert read_agent_request({**RUN, **body}, "chat").sampling[native.get(expected, expected)] == VALUES[name]


@pytest.mark.parametrize("name", [name for name, rule in OPENAI_FIELDS.items() if rule.tree == "all"])
def test_fields_of_all_agents(name: str) -> None:
    body = {**CHAT, name: VALUES[name]}
    inner = {"chat_template_kwargs": {name: VALUES[name]}} if name == "enable_thinking" else {name: VALUES[name]}
    assert read_tree_request(body, "chat", TREE).template_options == inner
    assert read_agent_request({**RUN, **body}, "chat").draft.template_options == inner


@pytest.mark.parametrize("name", [name for name, rule in OPENAI_FIELDS.items() if rule.tree is None])
def test_fields_refused_in_trees(name: str) -> None:
    with pytest.raises(
        BadRequest, match=rf"^`{name}` (cannot be used in a request to a tree of agents|is not taken here): .+\.$"
    ):
        read_tree_request({**CHAT, name: "anything"}, "chat", TREE)
    for neutral in (None, *OPENAI_FIELDS[name].neutral):
        read_tree_request({**CHAT, name: neutral}, "chat", TREE)


@pytest.mark.parametrize("name", [name for name, rule in OPENAI_FIELDS.items() if rule.run is None])
def test_fields_refused_in_runs(name: str) -> None:
    with pytest.raises(BadRequest, match=rf"^`{name}` (cannot be used in a request of a run|is not taken here): .+\.$"):
        read_agent_request({**RUN, **CHAT, name: "anything"}, "chat")


@pytest.mark.parametrize("name", [name for name, rule in OPENAI_FIELDS.items() if rule.tree == "label"])
def test_labels_are_accepted(name: str) -> None:
    read_tree_request({**CHAT, name: "anything"}, "chat", TREE)
    read_agent_request({**RUN, **CHAT, name: "anything"}, "chat")


@pytest.mark.parametrize(
    "name", [*NATIVE_FIELDS.keys() - {"run", "agent", "order", "model", "text", "prompt", "messages", "input_ids"}]
)
def test_native_fields_of_runs(name: str) -> None:
    body = {**RUN, "text": "x", name: {"n": 1} if name == "sampling_params" else "anything"}
    if NATIVE_FIELDS[name].run is None:
        with pytest.raises(BadRequest, match=f"^`{name}` (cannot be used in a request of a run|is not taken here)"):
            read_agent_request(body, None)
    elif name not in {"logprob_start_len", "return_logprob"}:
        read = read_agent_request(body, None)
        assert NATIVE_FIELDS[name].run == "router" or read.extra_fields[name] == "anything"


@pytest.mark.parametrize("name", [*NATIVE_SAMPLING])
def test_native_sampling_of_runs(name: str) -> None:
    value = {"5": 1.0} if name == "logit_bias" else 1
    body = {**RUN, "text": "x", "sampling_params": {name: value}}
    if NATIVE_SAMPLING[name].run is None:
        with pytest.raises(BadRequest, match=f"^`{name}` (cannot be used in a request of a run|is not taken here)"):
            read_agent_request(body, None)
    else:
        assert read_agent_request(body, None).sampling == {name: value}


def test_fields_that_another_prompt_would_need_are_refused() -> None:
    with pytest.raises(BadRequest, match="`reasoning_effort` is for chat templates"):
        read_agent_request({**RUN, "prompt": "x", "reasoning_effort": "low"}, "completion")
    with pytest.raises(BadRequest, match="`prompt` belongs to another path"):
        read_tree_request({**CHAT, "prompt": "x"}, "chat", TREE)
    with pytest.raises(BadRequest, match="`messages` belongs to another path"):
        read_tree_request({**CHAT, "prompt": "x"}, "completion", TREE)


def test_unknown_fields_are_refused() -> None:
    for read in (
        lambda: read_tree_request({**CHAT, "colour": 1}, "chat", TREE),
        lambda: read_agent_request({**RUN, **CHAT, "colour": 1}, "chat"),
        lambda: read_agent_request({**RUN, "text": "x", "colour": 1}, None),
    ):
        with pytest.raises(BadRequest, match="`colour` is not known in a request"):
            read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("regex", "[0-9]+"),
        ("ebnf", "root ::= 'a'"),
        ("json_schema", "{}"),
        ("lora_path", "x"),
        ("continue_final_message", True),
        ("return_logprob", True),
    ],
)
@pytest.mark.case("6.ignored_fields")
def test_public_case_constraints_are_refused(name: str, value: Any) -> None:
    for read in (
        lambda: read_tree_request({**CHAT, name: value}, "chat", TREE),
        lambda: read_agent_request({**RUN, **CHAT, name: value}, "chat"),
    ):
        with pytest.raises(BadRequest, match=f"^`{name}` cannot be used"):
            read()


WRONG: list[dict[str, Any]] = [
    {"temperature": -1}, {"temperature": "hot"}, {"temperature": float("inf")}, {"temperature": float("nan")},
    {"temperature": True}, {"top_p": 0}, {"top_p": 1.1}, {"min_p": -0.1}, {"top_k": 0}, {"top_k": -2}, {"top_k": 1.5},
    {"stop": 5}, {"stop": [5]}, {"stop": ["x"] * 65}, {"stop_token_ids": [-1]}, {"stop_token_ids": "5"},
    {"stop_token_ids": [2**62]}, {"max_tokens": -1}, {"max_tokens": "5"}, {"max_tokens": 2**40},
    {"repetition_penalty": 0}, {"repetition_penalty": 1e-40}, {"repetition_penalty": 2.5}, {"presence_penalty": 3},
    {"frequency_penalty": -3}, {"min_tokens": -1}, {"min_tokens": 9, "max_tokens": 8}, {"seed": 2**70},
    {"seed": "4"}, {"logit_bias": [1]}, {"logit_bias": {"x": 1}}, {"logit_bias": {"5": "a"}},
    {"logit_bias": {"5": 1e39}}, {"ignore_eos": "yes"},
]  # fmt: skip


@pytest.mark.parametrize("fields", WRONG, ids=json.dumps)
def test_wrong_values_name_their_field(fields: dict[str, Any]) -> None:
    for read in (
        lambda: read_tree_request({**CHAT, **fields}, "chat", TREE),
        lambda: read_agent_request({**RUN, **CHAT, **fields}, "chat"),
    ):
        with pytest.raises(BadRequest, match=f"^`{next(iter(fields))}` must"):
            read()
