"""Policies that keep what belongs together on one worker: consistent_hashing, prefix_hash, manual."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.load_balancing import (
    ConsistentHashing,
    Manual,
    PolicySettings,
    PrefixHash,
    PromptPrefix,
    RoutingContext,
    routing_context,
)
from router.load_balancing.rendezvous import in_order
from router.load_balancing.sticky_table import EXPIRED_AT_ONCE
from tests.router.load_balancing.groups import keyed, workers

# The context of a request


@pytest.mark.parametrize(
    ("headers", "body", "key"),
    [
        ({"x-smg-routing-key": "s1"}, {"session_id": "s2"}, b"s1"),
        ({}, {"session_id": "s2", "prompt_cache_key": "s3"}, b"s2"),
        ({}, {"prompt_cache_key": "s3"}, b"s3"),
        ({}, {"routing_key": "s4", "session_id": "s2"}, b"s4"),
        ({"x-smg-routing-key": ""}, {}, None),
        ({"x-smg-routing-key": "k" * 129}, {"session_id": "s2"}, b"s2"),
        ({"x-smg-routing-key": "k" * 128}, {}, b"k" * 128),
        ({}, {"session_id": "é" * 65}, None),
        ({}, {"session_id": 7}, None),
        ({"authorization": "Bearer x"}, {}, None),
    ],
)
def test_where_a_routing_key_stands(headers: dict[str, str], body: dict[str, Any], key: bytes | None) -> None:
    given = {name.encode(): value.encode() for name, value in headers.items()}
    assert routing_context("m", body, given).routing_key == key


def test_headers_for_the_key_can_be_chosen() -> None:
    headers = {b"x-session": b"a", b"x-other": b"b"}
    assert routing_context("m", {}, headers, [b"x-none", b"x-other", b"x-session"]).routing_key == b"b"


# Consistent hashing


def test_a_session_stays_and_others_are_spread() -> None:
    policy, group = ConsistentHashing(), workers(0, 0, 0, 0)
    homes = [policy.choose(group, keyed(f"user-{number}")) for number in range(100)]
    assert homes == [ConsistentHashing().choose(group, keyed(f"user-{number}")) for number in range(100)]
    assert len(set(homes)) == 4
    assert policy.branches == {"routing_key_hit": 100}


def test_without_a_key_a_client_is_told_by_its_address() -> None:
    policy, group = ConsistentHashing(), workers(0, 0, 0, 0)
    for each in ("x-forwarded-for", "cookie"):
        context = routing_context("m", {}, {each.encode(): b"10.0.0.7"})
        assert len({policy.choose(group, context) for _ in range(20)}) == 1
    assert policy.branches == {"implicit_key_hit": 40}


def test_clients_that_share_a_credential_or_have_nothing_are_spread() -> None:
    policy, group = ConsistentHashing(), workers(0, 0)
    context = routing_context("m", {}, {b"authorization": b"Bearer shared"})
    assert len({policy.choose(group, context) for _ in range(100)}) == 2
    assert policy.branches == {"random_fallback": 100}


# Prefix hash


def test_what_comes_after_the_beginning_does_not_count() -> None:
    policy, group = PrefixHash(PolicySettings(prefix_token_count=5)), workers(*[0] * 8)
    for kind, length in (("tokens", 5), ("text", 20), ("messages", 20)):
        begins = [chr(97 + number) * length for number in range(20)]
        homes = [{policy.choose(group, _prompt(begin + end, kind)) for end in ("", "x", "yyy")} for begin in begins]
        assert all(len(home) == 1 for home in homes)
        assert len(set.union(*homes)) > 1
        last = [policy.choose(group, _prompt(begin[:-1] + "!", kind)) for begin in begins]
        assert any({worker} != home for worker, home in zip(last, homes, strict=True)), "the last one counts"


def _prompt(text: str, kind: Any) -> RoutingContext:
    return RoutingContext(PromptPrefix(text, kind))


def test_a_key_counts_more_than_the_prompt() -> None:
    policy, group = PrefixHash(), workers(0, 0, 0, 0)
    contexts = [RoutingContext(PromptPrefix(f"prompt {number}"), routing_key=b"s") for number in range(20)]
    assert len({policy.choose(group, context) for context in contexts}) == 1


@given(loads=st.lists(st.integers(0, 200), min_size=1, max_size=6), factor=st.floats(1, 4), more=st.integers(0, 50))
def test_the_first_that_is_not_overloaded(loads: list[int], factor: float, more: int) -> None:
    policy = PrefixHash(PolicySettings(prefix_hash_load_factor=factor, prefix_hash_balance_abs_threshold=more))
    group, average = workers(*loads), (sum(loads) + 1) / len(loads)
    limit = max(average * factor, average + more)
    expected = next(worker for worker in in_order(group, b"s") if worker.load.requests <= limit)
    assert policy.choose(group, keyed("s")) is expected


def test_a_request_without_a_prompt_goes_to_the_least_loaded() -> None:
    policy, group = PrefixHash(), workers(3, 1, 2)
    assert policy.choose(group) is group[1]
    assert policy.branches == {"no_routing_key": 1}


# Manual


class Sessions(RuleBasedStateMachine):
    """Workers come and go; a session is on the first of its workers that is there, which are as few as can be."""

    def __init__(self) -> None:
        super().__init__()
        self.group = workers(0, 0, 0, 0)
        self.there = set(self.group)
        self.policy = Manual()
        self.homes: dict[str, list[str]] = {}

    @rule(number=st.integers(0, 3))
    def comes_or_goes(self, number: int) -> None:
        if self.there != {self.group[number]}:
            self.there ^= {self.group[number]}

    @rule(key=st.sampled_from("abcdefgh"))
    def asks(self, key: str) -> None:
        there = [worker for worker in self.group if worker in self.there]
        chosen = self.policy.choose(there, keyed(key)).url
        homes = self.homes.setdefault(key, [])
        expected = next((url for url in homes if any(worker.url == url for worker in there)), None)
        if expected is None:
            homes.append(chosen)
            del homes[:-2]
        else:
            assert chosen == expected

    @invariant()
    def keys_are_counted(self) -> None:
        table = self.policy.table
        assert {w.url: table.keys_at(w.url) for w in self.group if table.keys_at(w.url)} == Counter(
            homes[-1] for homes in self.homes.values()
        )


TestSessions = Sessions.TestCase
TestSessions.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)


def test_a_worker_that_joins_takes_no_session() -> None:
    policy, group = Manual(), workers(*[0] * 8)
    homes = [policy.choose(group[:2], keyed(f"user-{number}")) for number in range(100)]
    assert [policy.choose(group, keyed(f"user-{number}")) for number in range(100)] == homes
    assert policy.branches == {"vacant": 100, "occupied_hit": 100}


def test_two_models_have_sessions_of_their_own() -> None:
    policy, (one, other, third) = Manual(), workers(0, 0, 0)
    for _ in range(3):
        for model, group in (("a", [one]), ("b", [other]), ("c", [third])):
            assert policy.choose(group, keyed("s", model)) is group[0]
    assert policy.branches["vacant"] == 3


def test_processes_agree_on_new_sessions() -> None:
    group = workers(0, 0, 0, 0)
    one, other = Manual(), Manual()
    assert [one.choose(group, keyed(f"{n}")) for n in range(50)] == [
        other.choose(group, keyed(f"{n}")) for n in range(50)
    ]


def test_requests_without_a_key_are_spread() -> None:
    policy, group = Manual(), workers(0, 0)
    assert len({policy.choose(group) for _ in range(100)}) == 2
    assert len(policy.table) == 0


def test_new_sessions_go_where_the_mode_says() -> None:
    group = workers(5, 1, 3)
    by_load = Manual(PolicySettings(assignment_mode="min_load"))
    assert {by_load.choose(group, keyed(f"{number}")) for number in range(10)} == {group[1]}
    by_keys = Manual(PolicySettings(assignment_mode="min_group"))
    counts = Counter(by_keys.choose(group, keyed(f"{number}")).url for number in range(30))
    assert set(counts.values()) == {10}


def test_keys_are_bounded_and_the_least_recently_used_go() -> None:
    policy, group = Manual(PolicySettings(max_routing_keys=3)), workers(0, 0)
    for key in "abcad":
        policy.choose(group, keyed(key))
    assert len(policy.table) == 3
    assert [bool(policy.table.homes("m", key.encode())) for key in "abcd"] == [True, False, True, True]


def test_idle_keys_are_forgotten_a_few_at_a_time() -> None:
    now = 0.0
    policy, group = Manual(PolicySettings(max_idle_secs=10), clock=lambda: now), workers(0, 0)
    for number in range(3 * EXPIRED_AT_ONCE):
        policy.choose(group, keyed(f"{number}"))
    now = 9.0
    policy.choose(group, keyed("0"))
    now = 10.0
    policy.choose(group, keyed("new"))
    assert len(policy.table) == 2 * EXPIRED_AT_ONCE + 1
    assert policy.table.homes("m", b"%d" % (3 * EXPIRED_AT_ONCE - 1)) == (), "not there although not dropped yet"
    for _ in range(3):
        policy.choose(group, keyed("new"))
    assert len(policy.table) == 2, "the one that was used again, and the new one"
    assert sum(policy.table.keys_at(worker.url) for worker in group) == 2
