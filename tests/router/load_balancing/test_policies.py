"""Policies: held against naive oracles, with hostile prompts and workers that come and go."""

import gc
import random
import weakref
from collections import Counter
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from router.load_balancing import (
    POLICIES,
    CacheAware,
    CacheAwareSettings,
    PowerOfTwo,
    PromptPrefix,
    RoundRobin,
    RoutingContext,
    make_policy,
    prompt_prefix,
    token_prefix,
)
from router.load_balancing.prefix_tree import NODE_OVERHEAD, PrefixTree, _Node
from router.load_balancing.prompt_prefix import PromptKind
from router.workers.served_models import ServedModels
from tests.router.load_balancing.groups import workers

# Prefixes


@pytest.mark.parametrize(
    ("body", "prefix"),
    [
        ({"text": "hi"}, PromptPrefix("hi")),
        ({"prompt": "hi"}, PromptPrefix("hi")),
        ({"prompt": ["hi", "there"]}, PromptPrefix("hi")),
        ({"prompt": [104, 105]}, PromptPrefix("hi", "tokens")),
        ({"input_ids": [[104, 105], [1]]}, PromptPrefix("hi", "tokens")),
        ({"input_ids": [0xD800, 0x10FFFF]}, PromptPrefix("\ud800\U0010ffff", "tokens")),
        ({"input": "hi"}, PromptPrefix("hi")),
        ({"input": ["hi", "there"]}, PromptPrefix("hi")),
        ({"input": [104, 105]}, PromptPrefix("hi", "tokens")),
        ({"input": [{"role": "user", "content": "hi"}]}, PromptPrefix("user\nhi", "messages")),
        ({"input": []}, None),
        ({"messages": [{"role": "user", "content": "hi"}]}, PromptPrefix("user\nhi", "messages")),
        (
            {"messages": [{"content": [{"type": "text", "text": "a"}, {"type": "image_url"}, 7]}]},
            PromptPrefix("a", "messages"),
        ),
        ({"text": ""}, None),
        ({"text": None, "prompt": "x"}, PromptPrefix("x")),
        ({"prompt": []}, None),
        ({"prompt": [[]]}, None),
        ({"prompt": {"a": 1}}, None),
        ({"input_ids": [-1]}, None),
        ({"input_ids": [0x110000]}, None),
        ({"input_ids": [2**70]}, None),
        ({"input_ids": [1.5]}, None),
        ({"input_ids": [None]}, None),
        ({"input_ids": 7}, None),
        ({"messages": "hi"}, None),
        ({"messages": [7, {"role": 7, "content": 7}]}, None),
        ({}, None),
    ],
)
def test_the_prompt_of_a_body(body: dict[str, Any], prefix: PromptPrefix | None) -> None:
    assert prompt_prefix(body) == prefix


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("aé", max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("aé", max_size=4), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(["text", "prompt", "input_ids", "input", "messages"]), JSON))
def test_no_body_breaks_the_reading(body: dict[str, Any]) -> None:
    prefix = prompt_prefix(body)
    assert prefix is None or prefix.chars


@given(st.lists(st.integers(0, 0x10FFFF), min_size=1), st.lists(st.integers(0, 0x10FFFF), min_size=1))
def test_ids_are_compared_as_ids(one: list[int], other: list[int]) -> None:
    """As many characters in common as ids, whatever the ids look like as characters."""
    a, b = token_prefix(one), token_prefix(other)
    assert a is not None
    assert b is not None
    assert len(a.chars) == len(one)
    assert common(a.chars, b.chars) == next(
        (i for i, (x, y) in enumerate(zip(one, other, strict=False)) if x != y), min(len(one), len(other))
    )


# The tree


def common(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def nodes(tree: PrefixTree, *kinds: PromptKind) -> list[_Node]:
    """Every node but the roots, of all kinds or of some."""
    roots = [root for kind, root in tree._roots.items() if not kinds or kind in kinds]
    found, left = [], [node for root in roots for node in root.children.values()]
    while left:
        node = left.pop()
        found.append(node)
        left += node.children.values()
    return found


def way(tree: PrefixTree, prefix: PromptPrefix) -> list[_Node]:
    """The nodes that hold a prompt which was inserted."""
    found, at, node = [], 0, tree._roots[prefix.kind]
    while at < len(prefix.chars):
        node = node.children[prefix.chars[at]]
        found.append(node)
        at += len(node.label)
    return found


# Few letters and repeated blocks, so that prompts share, split and extend one another at every place.
PROMPTS = st.lists(st.sampled_from(["a", "b", "ab" * 40, "c" * 130]), min_size=1, max_size=5).map("".join)
KINDS: st.SearchStrategy[PromptKind] = st.sampled_from(get_args(PromptKind))


class AnyTree(RuleBasedStateMachine):
    """A tree with room for everything equals a list of all prompts; a small one holds some of them, within its size."""

    def __init__(self) -> None:
        super().__init__()
        self.big, self.small = PrefixTree(10**9), PrefixTree(900)
        self.sent: list[PromptPrefix] = []

    @rule(text=PROMPTS, kind=KINDS)
    def insert(self, text: str, kind: PromptKind) -> None:
        prefix = PromptPrefix(text, kind)
        self.sent.append(prefix)
        self.big.insert(prefix)
        self.small.insert(prefix)
        if (
            len(text) * prefix.unit + NODE_OVERHEAD * len(way(self.big, prefix)) <= 900
        ):  # what it needs alone, with all splits so far
            assert self.small.match(prefix) == len(text), "the latest prompt is the last one to be evicted"

    @rule(text=PROMPTS, kind=KINDS)
    def match(self, text: str, kind: PromptKind) -> None:
        wanted = max((common(text, one.chars) for one in self.sent if one.kind == kind), default=0)
        assert self.big.match(PromptPrefix(text, kind)) == wanted
        assert self.small.match(PromptPrefix(text, kind)) <= wanted

    @invariant()
    def sizes_are_what_is_there(self) -> None:
        for tree in (self.big, self.small):
            there = nodes(tree)
            ids = [node for node in there if node in nodes(tree, "tokens")]
            characters = sum(len(node.label) for node in there) + 3 * sum(len(node.label) for node in ids)
            assert tree.size == characters + NODE_OVERHEAD * len(there), "an id counts as four characters"
            assert set(tree._parents_by_age) == set(there)
            assert all(
                node.label and node.children.keys() == {c.label[0] for c in node.children.values()} for node in there
            )
        assert self.small.size <= 900


TestAnyTree = AnyTree.TestCase
TestAnyTree.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_the_least_recently_sent_goes_first() -> None:
    tree = PrefixTree(3 * (NODE_OVERHEAD + 10))
    first, second, third, fourth = (PromptPrefix(letter * 10) for letter in "abcd")
    for prefix in (first, second, third, first, fourth):
        tree.insert(prefix)
    assert [tree.match(prefix) for prefix in (first, second, third, fourth)] == [10, 0, 10, 10]


def test_what_many_share_outlives_what_one_had() -> None:
    tree = PrefixTree(10 * NODE_OVERHEAD)
    for turn in range(100):
        tree.insert(PromptPrefix("system prompt " + str(turn) * 5))
    assert tree.match(PromptPrefix("system prompt ")) == len("system prompt ")
    assert tree.match(PromptPrefix("system prompt " + "0" * 5)) < len("system prompt " + "0" * 5)


def test_a_prompt_over_the_whole_limit_leaves_an_empty_tree() -> None:
    tree = PrefixTree(1000)
    tree.insert(PromptPrefix("x" * 5000))
    assert (tree.size, nodes(tree)) == (0, [])
    tree.insert(PromptPrefix("y" * 100))
    assert tree.match(PromptPrefix("y" * 100)) == 100


def test_a_growing_conversation_is_one_node() -> None:
    tree, text = PrefixTree(10**6), ""
    for turn in range(200):
        text += f"turn {turn}. "
        tree.insert(PromptPrefix(text))
    assert len(nodes(tree)) == 1
    assert tree.match(PromptPrefix(text)) == len(text)


# Cache-aware


def shared(number: int) -> RoutingContext:
    return of(PromptPrefix(f"{number} " + "the same long begin " * 20))


def of(prompt: PromptPrefix | None) -> RoutingContext:
    return RoutingContext(prompt)


def test_a_known_prompt_goes_where_it_was() -> None:
    policy, group = CacheAware(), workers(0, 0, 0)
    homes = [policy.choose(group, shared(number)) for number in range(3)]
    assert len(set(homes)) == 3, "idle workers share new prompts evenly"
    for _ in range(3):
        assert [policy.choose(group, shared(number)) for number in range(3)] == homes


@given(
    loads=st.lists(st.integers(0, 200), min_size=2, max_size=6),
    home=st.integers(0, 5),
    absolute=st.integers(0, 100),
    relative=st.floats(1, 4),
)
def test_balance_thresholds(loads: list[int], home: int, absolute: int, relative: float) -> None:
    """The worker that has the prompt gets it unless both thresholds are exceeded; then a least loaded one."""
    policy = CacheAware(CacheAwareSettings(balance_abs_threshold=absolute, balance_rel_threshold=relative))
    group = workers(*([0] * len(loads)))
    chosen = group[home % len(group)]
    policy.choose([chosen], shared(1))
    for worker, load in zip(group, loads, strict=True):
        worker.load.requests = load
    least, most = min(loads), max(loads)
    got = policy.choose(group, shared(1))
    if most - least > absolute and most > relative * least:
        assert got.load.requests == least
    else:
        assert got is chosen


@given(st.integers(1, 100), st.integers(0, 100), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_the_cache_threshold(length: int, held: int, threshold: float) -> None:
    """More than the threshold of the prompt must be there; just as much is not enough."""
    held = min(held, length)
    policy, (home, other) = CacheAware(CacheAwareSettings(cache_threshold=threshold)), workers(0, 0)
    if held:
        policy.choose([home], of(PromptPrefix("x" * held + "y" * 9)))
    home.load.requests = 1
    got = policy.choose([home, other], of(PromptPrefix("x" * held + "z" * (length - held))))
    assert (got is home) == (held > threshold * length)


def test_text_and_ids_are_not_mixed_up() -> None:
    policy, group = CacheAware(), workers(0, 0)
    assert policy.choose([group[0]], of(PromptPrefix("a" * 50, "tokens"))) is group[0]
    group[0].load.requests = 1
    assert policy.choose(group, of(PromptPrefix("a" * 50))) is group[1]


def test_messages_and_the_same_text_are_different_prompts() -> None:
    """A server puts a chat template around one of them."""
    policy, group = CacheAware(), workers(0, 0)
    messages = prompt_prefix({"messages": [{"role": "user", "content": "a" * 50}]})
    assert policy.choose([group[0]], of(messages)) is group[0]
    group[0].load.requests = 1
    assert policy.choose(group, of(prompt_prefix({"prompt": "user\n" + "a" * 50}))) is group[1]
    assert policy.choose(group, of(messages)) is group[0]


def test_a_cache_full_of_ids_is_not_taken_for_an_empty_one() -> None:
    """Two idle workers: one got 900 token ids, the other 2,000 characters, which are some 500 tokens."""
    policy, (ids, text) = CacheAware(), workers(0, 0)
    policy.choose([ids], of(token_prefix(range(900))))
    policy.choose([text], of(PromptPrefix("a word " * 300)))
    assert policy.choose([ids, text], of(PromptPrefix("something else"))) is text


def test_token_ids_stay_within_the_size_too() -> None:
    tree = PrefixTree(10_000)
    for begin in range(100):
        tree.insert(PromptPrefix(chr(begin + 1) * 1000, "tokens"))
    assert len(nodes(tree)) == 10_000 // (4 * 1000 + NODE_OVERHEAD)


def test_a_worker_that_comes_back_with_another_model_has_nothing_of_the_old() -> None:
    policy, group = CacheAware(), workers(0, 0)
    policy.choose([group[0]], shared(1))
    group[0].served, group[0].load.requests = ServedModels(("other",)), 1
    assert policy.choose(group, shared(1)) is group[1]


def test_who_is_away_for_an_interval_is_forgotten() -> None:
    now = 0.0
    policy = CacheAware(CacheAwareSettings(eviction_interval_secs=10), clock=lambda: now)
    away, stays = workers(0, 0)
    policy.choose([away], shared(1))
    now = 9.0
    policy.choose([stays], shared(2))
    assert len(policy._states) == 2
    now = 20.0
    policy.choose([stays], shared(2))
    assert list(policy._states) == [stays]


def test_a_thousand_long_prompts_stay_within_the_memory() -> None:
    policy, group = CacheAware(CacheAwareSettings(max_tree_size=20_000)), workers(0, 0, 0)
    rng = random.Random(7)
    for _ in range(1000):
        policy.choose(group, of(PromptPrefix("".join(rng.choices("ab", k=rng.randrange(1, 3000))))))
    assert all(0 < memory.tree.size <= 20_000 for memory in policy._states.values())


def test_a_removed_worker_is_not_kept_alive() -> None:
    policies = {name: (make_policy(name, CacheAwareSettings()), workers(0, 0)) for name in sorted(POLICIES)}
    gone = {}
    for name, (policy, group) in policies.items():
        for number in range(8):
            policy.choose(group, shared(number))
        gone[name] = weakref.ref(group.pop())
    gc.collect()  # once, since it takes long
    assert [name for name, worker in gone.items() if worker() is not None] == []
    for policy, group in policies.values():
        assert policy.choose(group, shared(1)) is group[0]


@pytest.mark.parametrize("name", sorted(POLICIES))
@given(loads=st.lists(st.integers(0, 99), min_size=1, max_size=5), prefix=st.none() | PROMPTS.map(PromptPrefix))
def test_one_of_the_given_is_chosen(name: str, loads: list[int], prefix: PromptPrefix | None) -> None:
    policy, group = make_policy(name, CacheAwareSettings()), workers(*loads)
    for _ in range(3):
        assert policy.choose(group, of(prefix)) in group


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cache_threshold": 1.1}, "--cache-threshold 1.1 is no share"),
        ({"cache_threshold": float("nan")}, "--cache-threshold nan is no share"),
        ({"balance_abs_threshold": -1}, "--balance-abs-threshold -1 is no count"),
        ({"balance_rel_threshold": 0.5}, "--balance-rel-threshold 0.5 would call even loads uneven"),
        ({"balance_rel_threshold": float("inf")}, "--balance-rel-threshold inf would call even loads uneven"),
        ({"eviction_interval_secs": 0}, "--eviction-interval-secs 0 is no time"),
        ({"max_tree_size": 0}, "--max-tree-size 0 leaves no room"),
    ],
)
def test_wrong_settings(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CacheAwareSettings(**wrong)


# The others


@given(st.lists(st.sets(st.integers(0, 4), min_size=1), min_size=1, max_size=30))
def test_round_robin_while_workers_come_and_go(present: list[set[int]]) -> None:
    """Whoever is chosen has waited longest of those that are there."""
    policy, group, turns = RoundRobin(), workers(0, 0, 0, 0, 0), dict.fromkeys(range(5), -1)
    for turn, there in enumerate(present):
        chosen = group.index(policy.choose([group[i] for i in sorted(there)]))
        assert turns[chosen] == min(turns[i] for i in there)
        turns[chosen] = turn


def test_processes_of_a_router_begin_their_rounds_at_different_workers() -> None:
    group = workers(0, 0, 0)
    firsts = [make_policy("round_robin", CacheAwareSettings(), process=process).choose(group) for process in range(4)]
    assert firsts == [*group, group[0]]
    second = make_policy("round_robin", CacheAwareSettings(), process=1)
    assert [second.choose(group) for _ in range(6)] == [group[1], group[2], group[0]] * 2


def test_power_of_two_follows_the_live_load() -> None:
    """Each choice becomes load at once, as it does in a dispatcher: loads stay close."""
    random.seed(3)
    group, policy = workers(*[0] * 8), PowerOfTwo()
    for _ in range(8000):
        policy.choose(group).load.requests += 1
    assert max(w.load.requests for w in group) - min(w.load.requests for w in group) < 20
    group[3].load.requests = 10**6
    counts = Counter(policy.choose(group).url for _ in range(500))
    assert group[3].url not in counts, "it can only lose a comparison"
