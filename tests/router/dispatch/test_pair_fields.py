"""The body both servers of a pair get."""

import re
from typing import Any

import orjson
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from router.dispatch.pair_fields import pair_body
from router.errors import BadRequest
from router.request_checks.batches import batch_size
from router.request_checks.refused_fields import RESERVED_FIELDS
from router.workers.worker import Pair, Worker

PAIR = Pair(Worker("http://10.0.0.7:1", "prefill", 8998), Worker("http://10.0.0.8:2", "decode"))
GENERATE, COMPLETIONS, CHAT = "/generate", "/v1/completions", "/v1/chat/completions"
HEX = re.compile(r"[0-9a-f]{32}")

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.claim("bootstrap-is-not-chosen")
@given(
    st.dictionaries(st.sampled_from(RESERVED_FIELDS), values),
    st.dictionaries(st.text().filter(lambda key: key not in {"n", "sampling_params", "rid", *RESERVED_FIELDS}), values),
)
def test_no_reserved_field_of_a_client_gets_through(reserved: dict[str, Any], other: dict[str, Any]) -> None:
    given_body = {**other, **reserved}
    before = orjson.dumps(given_body, option=orjson.OPT_SORT_KEYS)
    try:
        sent = pair_body(given_body, PAIR, GENERATE)
    except BadRequest:
        reject()  # Hypothesis also draws words that stand in the source, such as names of fields that are refused
    assert orjson.dumps(given_body, option=orjson.OPT_SORT_KEYS) == before, "the client's body was changed"
    assert "bootstrap_pair_key" not in sent
    size = batch_size(given_body, GENERATE)
    for key, value in (("bootstrap_host", "10.0.0.7"), ("bootstrap_port", 8998)):
        assert sent[key] == (value if size is None else [value] * size)
    rooms = [sent["bootstrap_room"]] if size is None else sent["bootstrap_room"]
    assert all(type(room) is int and 0 <= room <= 2**63 - 1 - 1000 for room in rooms)
    assert {key: value for key, value in sent.items() if key in other} == other


@pytest.mark.parametrize(
    ("path", "body", "size"),
    [
        (GENERATE, {"text": "x"}, None),
        (GENERATE, {"text": ["x"]}, 1),
        (GENERATE, {"text": ["x", "y"]}, 2),
        (COMPLETIONS, {"prompt": "x"}, None),
        (COMPLETIONS, {"prompt": ["x", "y", "z"]}, 3),
        (COMPLETIONS, {"prompt": [1, 2, 3]}, None),
        (COMPLETIONS, {"prompt": [[1, 2], [3]]}, 2),
        (COMPLETIONS, {"prompt": []}, None),
        (GENERATE, {"input_ids": [1, 2]}, None),
        (GENERATE, {"input_ids": [[1, 2], [3, 4]]}, 2),
        (GENERATE, {"text": None, "input_ids": [[1]]}, 1),
        (CHAT, {"messages": [{"role": "user", "content": "x"}]}, None),
        # What SGLang does not look at, or not any more.
        (GENERATE, {"text": "x", "input_ids": [[1], [2]]}, None),
        (GENERATE, {"text": "x", "prompt": ["x", "y"]}, None),
        (COMPLETIONS, {"prompt": "x", "text": ["x", "y"], "input_ids": [[1], [2]]}, None),
        (CHAT, {"messages": [], "text": ["x", "y"], "prompt": ["x", "y"]}, None),
        ("/v1/rerank", {"query": "x", "documents": ["x", "y"], "prompt": ["x", "y"]}, None),
    ],
)
def test_batches_get_lists(path: str, body: dict[str, Any], size: int | None) -> None:
    sent = pair_body(body, PAIR, path)
    for key in ("bootstrap_host", "bootstrap_port", "bootstrap_room", "rid"):
        if size is None:
            assert not isinstance(sent[key], list)
        else:
            assert len(sent[key]) == size
    if size is not None:
        assert len(set(sent["bootstrap_room"])) == len(set(sent["rid"])) == size


def test_rooms_and_ids_are_fresh() -> None:
    sent = [pair_body({"text": "x"}, PAIR, GENERATE) for _ in range(2000)]
    assert len({body["bootstrap_room"] for body in sent}) == 2000
    assert len({body["rid"] for body in sent}) == 2000
    assert all(HEX.fullmatch(body["rid"]) for body in sent)
    assert max(body["bootstrap_room"] for body in sent) > 2**61, "only the low half of the range is used"


def test_a_clients_id_begins_the_one_sent() -> None:
    """Never the id itself: SGLang aborts whatever begins with the id to abort, so `1` would end `17` too."""
    first, second = (pair_body({"text": "x", "rid": "1"}, PAIR, GENERATE)["rid"] for _ in range(2))
    assert HEX.fullmatch(first.removeprefix("1-"))
    assert first != second
    for rid, beginnings in (("same", ["same-", "same-"]), (["a", "b"], ["a-", "b-"])):
        sent = pair_body({"text": ["x", "y"], "rid": rid}, PAIR, GENERATE)["rid"]
        for each, beginning in zip(sent, beginnings, strict=True):
            assert HEX.fullmatch(each.removeprefix(beginning))
    for nothing in (None, ""):
        assert HEX.fullmatch(pair_body({"text": "x", "rid": nothing}, PAIR, GENERATE)["rid"])


@pytest.mark.parametrize(
    "body",
    [
        {"text": "x", "rid": 5},
        {"text": "x", "rid": ["a", "b"]},
        {"text": ["x", "y"], "rid": ["a"]},
        {"text": ["x", "y"], "rid": ["a", 1]},
        {"text": "x", "rid": {"a": 1}},
    ],
)
def test_wrong_ids_are_refused(body: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"^`rid` must be a string, or a list of one string for each prompt\.$"):
        pair_body(body, PAIR, GENERATE)


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": "x", "n": 2},
        {"prompt": "x", "n": 2.0},
        {"prompt": "x", "n": "2"},
        {"text": "x", "sampling_params": {"n": 2}},
        {"text": ["x", "y"], "sampling_params": [{"n": 1}, {"n": 2}]},
    ],
)
def test_several_samples_are_refused(body: dict[str, Any]) -> None:
    """One body is for one sample; requests for several are sent as several (`test_samples.py`)."""
    with pytest.raises(BadRequest, match="send 2 requests"):
        pair_body(body, PAIR, GENERATE)


def test_null_samples_of_generate_are_refused() -> None:
    """SGLang breaks the connection at them."""
    with pytest.raises(BadRequest, match=r"^`n` must be a whole number from 1 to 128, or left out\.$"):
        pair_body({"text": "x", "sampling_params": {"n": None}}, PAIR, GENERATE)


@pytest.mark.parametrize("n", ["two", [2], {}])
def test_no_number_of_samples_is_refused(n: Any) -> None:
    with pytest.raises(BadRequest, match=r"^`n` must be a whole number from 1 to 128, or left out\.$"):
        pair_body({"text": "x", "n": n}, PAIR, GENERATE)


@pytest.mark.parametrize(
    "body",
    [
        {"n": 1},
        {"n": None},
        {"n": "1"},
        {"sampling_params": {"n": 1}},
        {"sampling_params": {}},
    ],
)
def test_one_sample_is_not(body: dict[str, Any]) -> None:
    pair_body({"text": "x", **body}, PAIR, GENERATE)
