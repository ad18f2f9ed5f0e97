"""How the soak judges answers and its record: every promise can be broken."""

import json
import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.kills import __main__ as soak
from tests.kills.answers import Result, judge
from tests.kills.record import BOTH, HANG_SECONDS, ROLES, Held, Kill, Outcome, Record, bars, refused_share
from tests.kills.requests import PLAIN_KINDS, Request, draw


def outcome(result: Result = "answer", began: float = 1.0, ended: float = 2.0, router: str = BOTH) -> Outcome:
    return Outcome("generate", router, result, 200, began, ended)


def good() -> Record:
    """One that keeps every promise, though only just."""
    record = Record(
        minutes=2,
        kills=[
            Kill("decode", "decode a", 20.0, 2.0, 9.0, 9.9, 9.0),
            Kill("router", "router process", 80.0, 2.0, 0.2, 0.1, 0.5),
        ],
        outcomes=[outcome() for _ in range(96)],
        start=Held({"decode a": 4096}, [], 3),
        end=Held({"decode a": 4096}, [], 3),
        left=[],
    )
    record.outcomes += [outcome("refused")] * 4 + [outcome("broken")]
    record.outcomes += [outcome("left", ended=2.0), outcome("cut", 79.0, 80.3), outcome(ended=HANG_SECONDS)]
    return record


def broken(record: Record) -> list[str]:
    return [bar.promise for bar in bars(record) if not bar.kept]


def test_a_good_record_keeps_every_promise() -> None:
    assert broken(good()) == []


def test_an_empty_record_keeps_hardly_any() -> None:
    assert len(broken(Record(minutes=2))) == 5


def without_one_kill(record: Record) -> None:
    record.minutes = 3


def never_back(record: Record) -> None:
    record.kills[0].back = None


def hung(record: Record) -> None:
    record.outcomes.append(outcome("hung", 0.0, HANG_SECONDS))


def answered_too_late(record: Record) -> None:
    record.outcomes.append(outcome("answer", 0.0, HANG_SECONDS + 1.0))


def wrong(record: Record) -> None:
    record.outcomes.append(outcome("wrong"))


def cut_without_a_kill(record: Record) -> None:
    record.outcomes.append(outcome("cut", 60.0, 79.9))


def cut_long_after_a_kill(record: Record) -> None:
    record.outcomes.append(outcome("cut", 79.0, 90.0))


def cut_at_a_router_that_nobody_killed(record: Record) -> None:
    record.outcomes.append(outcome("cut", 79.0, 80.3, router="a"))


def slow_after_a_kill(record: Record) -> None:
    record.kills[0].answered = 10.1


def silent_after_a_kill(record: Record) -> None:
    record.kills[1].answered = None


def refused_often(record: Record) -> None:
    record.outcomes += [outcome("refused")] * 2


def kv_lost(record: Record) -> None:
    record.end = Held({"decode a": 4095}, [], 3)


def still_busy(record: Record) -> None:
    record.end = Held({"decode a": 4096}, ["decode a"], 3)


def more_shared_memory(record: Record) -> None:
    record.end = Held({"decode a": 4096}, [], 4)


def something_left(record: Record) -> None:
    record.left = ["/dev/shm/sem.mp-1"]


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (without_one_kill, "a kill each minute"),
        (never_back, "a kill each minute"),
        (hung, "no request takes longer"),
        (answered_too_late, "no request takes longer"),
        (wrong, "every request gets an answer or a 5xx"),
        (cut_without_a_kill, "every request gets an answer or a 5xx"),
        (cut_long_after_a_kill, "every request gets an answer or a 5xx"),
        (cut_at_a_router_that_nobody_killed, "every request gets an answer or a 5xx"),
        (slow_after_a_kill, "after a kill the router answers"),
        (silent_after_a_kill, "after a kill the router answers"),
        (refused_often, "fewer than 5%"),
        (kv_lost, "free KV"),
        (still_busy, "free KV"),
        (more_shared_memory, "nothing stays in shared memory"),
        (something_left, "nothing stays in shared memory"),
    ],
)
def test_every_promise_can_be_broken(spoil: Callable[[Record], None], promise: str) -> None:
    record = good()
    spoil(record)
    (found,) = broken(record)
    assert found.startswith(promise)


def test_refusals_where_there_is_no_second_pair_do_not_count() -> None:
    record = good()
    record.outcomes += [outcome("refused", router="a")] * 50
    assert broken(record) == []
    assert refused_share(record.outcomes, "a") == 1.0


def request(kind: str, *, stream: bool = False) -> Request:
    return Request(kind, "/", {"stream": stream}, None if kind in {"tree", "exit"} else 3)


def events(*told: object) -> str:
    return "".join(f"data: {each if isinstance(each, str) else json.dumps(each)}\n\n" for each in told)


META = {"meta_info": {"completion_tokens": 3}}
GIVEN_UP = {"completion_tokens": 1, "finish_reason": {"type": "abort", "message": "no KV", "status_code": 500}}
CHAT = {"choices": [{"message": {"content": "Hi"}, "finish_reason": "length"}], "usage": {"completion_tokens": 3}}
TEXT = {"choices": [{"text": "Hi", "finish_reason": "length"}], "usage": {"completion_tokens": 3}}
BEGUN = {"choices": [{"delta": {"content": "Hi"}}]}
OVER = {"choices": [{"delta": {}, "finish_reason": "stop"}]}
ERROR = {"error": {"message": "a server died", "code": 502}}


@pytest.mark.parametrize(
    ("asked", "status", "text", "result"),
    [
        (request("generate"), 200, json.dumps(META), "answer"),
        (request("generate"), 200, json.dumps({"meta_info": {"completion_tokens": 2}}), "wrong"),
        (request("chat"), 200, json.dumps(CHAT), "answer"),
        (request("tree"), 200, json.dumps(CHAT), "answer"),
        (request("completions"), 200, json.dumps(TEXT), "answer"),
        (request("chat"), 200, json.dumps({**CHAT, "usage": {"completion_tokens": 1}}), "wrong"),
        (request("chat"), 200, "{}", "wrong"),
        (request("chat"), 200, "half an ans", "wrong"),
        (request("chat"), 503, "busy", "refused"),
        (request("chat"), 400, "no", "wrong"),
        (request("generate", stream=True), 200, events(META, "[DONE]"), "answer"),
        (request("generate", stream=True), 200, events({"meta_info": {"completion_tokens": 2}}, "[DONE]"), "wrong"),
        (request("generate", stream=True), 200, events({"meta_info": GIVEN_UP}, "[DONE]"), "broken"),
        (request("chat", stream=True), 200, events(BEGUN, OVER, "[DONE]"), "answer"),
        (request("chat", stream=True), 200, events(BEGUN, "[DONE]"), "wrong"),
        (request("exit", stream=True), 200, events(BEGUN, OVER), "wrong"),
        (request("exit", stream=True), 200, events(BEGUN, ERROR, "[DONE]"), "broken"),
        (request("chat", stream=True), 200, events(BEGUN, {"error": {"code": 400}}, "[DONE]"), "wrong"),
        (request("chat", stream=True), 200, "", "wrong"),
        (request("chat", stream=True), 502, "no pair", "refused"),
    ],
)
def test_an_answer_is_judged(asked: Request, status: int, text: str, result: Result) -> None:
    assert judge(asked, status, text) == result


def test_each_minute_has_a_kill_and_four_minutes_have_each_role() -> None:
    plan = soak.schedule(10, random.Random(1))
    assert [int(second // 60) for _, second in plan] == list(range(10))
    roles = [role for role, _ in plan]
    assert set(roles[:4]) == set(roles[4:8]) == set(ROLES)
    assert plan == soak.schedule(10, random.Random(1)) != soak.schedule(10, random.Random(2))


def test_the_load_is_mixed() -> None:
    chance = random.Random(3)
    drawn = [draw(chance, trees=True) for _ in range(500)]
    assert set(Counter((each.kind, each.streams) for each in drawn)) == {
        (kind, streams) for kind in (*PLAIN_KINDS, "tree", "exit") for streams in (False, True)
    }
    assert 0 < sum(each.leaves is not None for each in drawn) < 150
    assert {each.kind for each in (draw(chance, trees=False) for _ in range(100))} == set(PLAIN_KINDS)


def test_the_summary_can_be_written() -> None:
    told = soak.summary(good(), "python -m tests.kills", 7)
    assert all(bar["kept"] for bar in told["bars"])
    assert told["requests"]["all"] == len(good().outcomes)
    assert [kill["delay"] for kill in told["kills"]] == [pytest.approx(0.9), pytest.approx(-0.1)]
    assert [(each["result"], each["explained"]) for each in told["others"]][-1] == ("cut", True)
    assert json.dumps(told)
