"""The overlay's open prompts on real pairs, with pages of one token and of 16."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import pytest

from sglang_ext.open_prompt.scheduling import MAX_HOLD_STEPS_FOR_ONE
from tests.e2e.conftest import TTL
from tests.e2e.open_prompts import Prompt, counters, send, some_ids, statuses
from tests.e2e.servers import TIMEOUT, Servers, generate, is_quiet, overlay_state, passes, post, wait_for


def quiet(pair: Servers, seconds: float = TIMEOUT) -> bool:
    """Whether both become quiet: a server gives up a request's pages a moment after its answer."""
    return wait_for(lambda: is_quiet(pair.prefill) and is_quiet(pair.decode), seconds)


def finals_seen(pair: Servers) -> list[int]:
    return [counters(base)["finals"] for base in (pair.prefill, pair.decode)]


def pinned(pair: Servers) -> list[int]:
    return [counters(base)["pinned"] for base in (pair.prefill, pair.decode)]


def test_segments_then_a_final_request(pair: Servers) -> None:
    """Segments shorter and longer than the prefill chunk of 128; the same tokens as all at once."""
    ids = some_ids(600)
    wanted = generate(pair.plain, ids, 8)["output_ids"]
    prompt = Prompt(pair)
    for start, end in ((0, 50), (50, 121), (121, 430), (430, 590)):
        answers = prompt.append(ids[start:end], start)
        assert statuses(answers) == [200, 200]
        for answer in answers:
            assert answer.json()["output_ids"] == []
            assert answer.json()["meta_info"]["completion_tokens"] == 0
    whole_pages = 590 // 16 * 16 if pair.model.endswith("paged") else 590
    assert pinned(pair) == [whole_pages, whole_pages]
    _, answer = prompt.final(ids[590:], 590)
    assert answer.json()["output_ids"] == wanted
    assert answer.json()["meta_info"]["prompt_tokens"] == 600
    assert answer.json()["meta_info"]["cached_tokens"] >= whole_pages
    assert quiet(pair)


def test_tokens_are_taken_back(pair: Servers) -> None:
    ids, others = some_ids(200), some_ids(100)
    prompt = Prompt(pair)
    assert statuses(prompt.append(ids)) == [200, 200]
    assert statuses(prompt.append(others, 70)) == [200, 200]
    assert statuses(prompt.append(others[:40], 70)) == [200, 200]  # nothing that is not cached already
    assert max(pinned(pair)) <= 110
    whole = ids[:70] + others[:40] + ids[:5]
    _, answer = prompt.final(ids[:5], 110)
    assert answer.json()["output_ids"] == generate(pair.plain, whole, 8)["output_ids"]
    assert quiet(pair)


def test_the_final_request_has_its_own_limits(pair: Servers) -> None:
    """`max_new_tokens` counts from the final request, logprobs cover its tokens, streaming streams them."""
    ids = some_ids(64)
    prompt = Prompt(pair)
    assert statuses(prompt.append(ids[:60])) == [200, 200]
    _, answer = prompt.final(ids[60:], 60, tokens=5, return_logprob=True)
    meta = answer.json()["meta_info"]
    assert meta["completion_tokens"] == len(meta["output_token_logprobs"]) == 5
    plain = generate(pair.plain, ids, 5, return_logprob=True)["meta_info"]
    assert [token for _, token, _ in meta["output_token_logprobs"]] == [
        token for _, token, _ in plain["output_token_logprobs"]
    ]
    for (mine, _, _), (theirs, _, _) in zip(meta["output_token_logprobs"], plain["output_token_logprobs"], strict=True):
        assert mine == pytest.approx(theirs, abs=1e-3)


def test_what_does_not_fit_is_refused_and_changes_nothing(servers: Servers) -> None:
    ids = some_ids(40)
    prompt = Prompt(servers)

    def refused(answers: list[httpx.Response], words: str) -> None:
        assert statuses(answers) == [400, 400]
        for answer in answers:
            assert words in answer.json()["error"]["message"], answer.text

    refused(prompt.append(ids, at=3), "is not known here")
    assert statuses(prompt.append(ids)) == [200, 200]
    refused(prompt.append(ids, at=41), "has 40 tokens here, so `at` cannot be 41")
    refused(prompt.append([], at=40), "input_ids cannot be empty")
    refused(prompt.append(some_ids(2_020), at=40), "would have 2060 tokens, but this server takes 2042")
    refused(prompt.final(some_ids(100), at=40, tokens=1_930), "and its answer may have 1930")
    for wrong, words in (
        ({"id": prompt.id, "op": "extend"}, "`open_prompt.op` is 'extend'"),
        ({"id": prompt.id, "op": "append", "at": -1}, "`open_prompt.at` is -1"),
        ({"id": prompt.id, "op": "append", "at": "40"}, "`open_prompt.at` is '40'"),
        ({"id": "short", "op": "append"}, "`open_prompt.id` must be"),
        ({"id": 7, "op": "append"}, "`open_prompt.id` must be"),
        ({"op": "append"}, "must be an object"),
        ([1, 2], "must be an object"),
        ("append", "must be an object"),
        (None, "must be an object"),
        ([[1]], ""),
        ({"id": {"a": {"b": 1}}}, ""),
    ):
        refused(send(servers, ids, {"max_new_tokens": 0, "custom_params": {"open_prompt": wrong}}), words)
    mark = {"open_prompt": {"id": prompt.id, "op": "append", "at": 40}}
    refused(send(servers, ids, {"max_new_tokens": 3, "custom_params": mark}), "a segment generates nothing")
    # Half of a request: decode does not know the prompt, so prefill must not answer from what it has.
    other = Prompt(servers)
    httpx.post(
        f"{servers.prefill}/generate",
        json={
            "input_ids": ids,
            "sampling_params": {
                "max_new_tokens": 0,
                "custom_params": {"open_prompt": {"id": other.id, "op": "append", "at": 1}},
            },
            "bootstrap_room": 5,
        },
        timeout=TIMEOUT,
    )
    # It is all as it was.
    _, answer = prompt.final(ids[:4], 40)
    assert answer.json()["output_ids"] == generate(servers.plain, ids + ids[:4], 8)["output_ids"]
    refused(prompt.append(ids, at=40), "is not known here")
    assert quiet(servers)


def test_append_after_final(servers: Servers) -> None:
    prompt, finals = Prompt(servers), finals_seen(servers)
    ids = some_ids(30)
    assert statuses(prompt.append(ids)) == [200, 200]
    with ThreadPoolExecutor(1) as pool:
        final = pool.submit(prompt.final, some_ids(300), 30, 8)
        assert wait_for(lambda: finals_seen(servers) == [seen + 1 for seen in finals])
        late = prompt.append(ids, 30)
        assert statuses(final.result()) == [200, 200]
    # While the final request is prefilled the prompt is known to be over, afterwards it is forgotten.
    assert 400 in statuses(late)
    assert quiet(servers)


def flushed(base: str) -> bool:
    return httpx.post(f"{base}/flush_cache", timeout=TIMEOUT).status_code == 200


def test_close_and_flush(servers: Servers) -> None:
    prompt, other = Prompt(servers), Prompt(servers)
    assert statuses(prompt.append(some_ids(50))) == [200, 200]
    assert statuses(other.append(some_ids(50))) == [200, 200]
    assert statuses(prompt.close()) == statuses(prompt.close()) == [200, 200]
    assert pinned(servers) == [50, 50]
    for base in (servers.prefill, servers.decode):
        assert wait_for(partial(flushed, base))  # it is refused while anything is under way
        assert overlay_state(base)["kv"]["free"] == overlay_state(base)["kv"]["total"]
    assert statuses(other.append(some_ids(50), 50)) == [200, 200]  # the ids were kept, the pages are made anew
    assert statuses(other.close()) == [200, 200]
    assert quiet(servers)


def test_ordinary_requests_go_first(servers: Servers) -> None:
    """Two segments of nine chunks each; an ordinary request that comes meanwhile is served before them."""
    # Where this process stalls, both segments are done before the request comes; not so five times in a row.
    assert any(an_ordinary_request_comes_among_segments(servers) for _ in range(5))


def an_ordinary_request_comes_among_segments(servers: Servers) -> bool:
    """Whether it came in time; then it must be served before the segments that were not done."""
    before, done = counters(servers.prefill)["yielded"], passes(servers)
    ended: list[str] = []

    def segment(prompt: Prompt, ids: list[int]) -> None:
        assert statuses(prompt.append(ids)) == [200, 200]
        ended.append("segment")

    def ordinary(ids: list[int]) -> Any:
        answers = send(servers, ids, {"max_new_tokens": 1, "temperature": 0})
        assert statuses(answers) == [200, 200]
        ended.append("ordinary")
        return answers[1].json()["output_ids"]

    prompts = [(Prompt(servers), some_ids(1_100)) for _ in range(2)]
    plain = [some_ids(count) for count in (60, 200, 60)]  # one longer than a chunk
    with ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(segment, *each) for each in prompts]
        assert wait_for(lambda: passes(servers) >= done + 2), "the first is in the middle of its chunks"
        done_before = sum(each.done() for each in slow)
        answers = [pool.submit(ordinary, ids).result() for ids in plain]
        for each in slow:
            each.result()
    in_time = ended[:2] != ["segment", "segment"]
    if in_time:
        assert ended[done_before] == "ordinary"
        assert counters(servers.prefill)["yielded"] > before
    assert answers == [generate(servers.plain, ids, 1)["output_ids"] for ids in plain]
    for prompt, ids in prompts:
        _, answer = prompt.final(ids[-1:], 1_099)
        assert answer.json()["output_ids"] == generate(servers.plain, ids, 8)["output_ids"]
    assert quiet(servers)
    return in_time


def test_segments_leave_a_handshake_its_time(servers: Servers) -> None:
    """An ordinary request that decode has not heard of yet keeps segments waiting, but not for ever."""
    before = counters(servers.prefill)["held"]
    legs: dict[str, object] = {"input_ids": some_ids(60), "sampling_params": {"max_new_tokens": 1, "temperature": 0}}
    legs |= {"bootstrap_host": "127.0.0.1", "bootstrap_port": servers.bootstrap_port, "bootstrap_room": 2**61 + 1}
    prompt = Prompt(servers)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(post, f"{servers.prefill}/generate", legs)
        assert wait_for(lambda: sum(overlay_state(servers.prefill)["requests"].values()) == 1)
        assert statuses(prompt.append(some_ids(20))) == [200, 200]
        assert counters(servers.prefill)["held"] - before == MAX_HOLD_STEPS_FOR_ONE
        assert not first.done()
        answers = [post(f"{servers.decode}/generate", legs), first.result()]
    assert statuses(answers) == [200, 200]
    assert statuses(prompt.close()) == [200, 200]
    assert quiet(servers)


@pytest.mark.parametrize("chunks", [1, 3, 7])
def test_aborted_while_it_is_prefilled(servers: Servers, paged: Servers, chunks: int) -> None:
    """In its first chunk, between chunks, in its last one: no token comes out, and nothing stays behind."""
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(abort_after, chunks), (servers, paged)))


def abort_after(chunks: int, pair: Servers) -> None:
    """Abort a segment after so many chunks of it."""
    prompt = Prompt(pair)
    rid = prompt.id
    before = passes(pair)
    with ThreadPoolExecutor(1) as pool:
        segment = pool.submit(prompt.append, some_ids(800), 0, rid=rid)
        assert wait_for(lambda: passes(pair) >= before + chunks)
        for base in (pair.prefill, pair.decode):
            httpx.post(f"{base}/abort_request", json={"rid": rid}, timeout=TIMEOUT)
        answers = segment.result()
    for answer in answers:
        assert answer.status_code >= 500 or answer.json()["output_ids"] == []
    assert quiet(pair)
    assert wait_for(lambda: pinned(pair) == [0, 0], TTL + TIMEOUT)


def test_seventy_abandoned_prompts(servers: Servers) -> None:
    """They would fill the pool; ordinary requests go on, and in the end all is free."""
    budget = counters(servers.prefill)["budget"]
    assert budget == int(0.3 * overlay_state(servers.prefill)["kv"]["total"])
    most = 0
    with ThreadPoolExecutor(8) as pool:
        abandoned = [pool.submit(Prompt(servers).append, some_ids(60)) for _ in range(70)]
        ordinary = []
        while not all(each.done() for each in abandoned):
            ordinary.append(send(servers, some_ids(100), {"max_new_tokens": 2, "ignore_eos": True}))
            most = max(most, *pinned(servers))
        assert all(statuses(each.result()) == [200, 200] for each in abandoned)
    assert ordinary
    assert all(statuses(each) == [200, 200] for each in ordinary)
    assert 0.5 * budget < most <= budget
    assert counters(servers.decode)["taken"] > 0
    # An ordinary request that needs nearly the whole pool takes the pins away.
    assert statuses(send(servers, some_ids(2_000), {"max_new_tokens": 30, "ignore_eos": True})) == [200, 200]
    assert quiet(servers, TTL + TIMEOUT)
    assert counters(servers.prefill)["open"] == counters(servers.decode)["open"] == 0
