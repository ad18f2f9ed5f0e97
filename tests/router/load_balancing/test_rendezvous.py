"""Keys and their workers: little moves when workers come and go, and every process decides alike."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from router.load_balancing.rendezvous import in_order, owner
from tests.router.load_balancing.groups import workers

GROUP = workers(*[0] * 8)
KEYS = st.binary(max_size=40)
SOME = st.sets(st.integers(0, 7), min_size=1)


@given(st.lists(KEYS, min_size=1, max_size=20), SOME, st.integers(0, 7))
def test_only_keys_of_the_worker_that_comes_or_goes_move(keys: list[bytes], there: set[int], other: int) -> None:
    before = [GROUP[i] for i in sorted(there - {other})] or [GROUP[(other + 1) % 8]]
    after = [*before, GROUP[other]]
    for key in keys:
        assert owner(after, key) in (owner(before, key), GROUP[other])


@given(KEYS, SOME, st.randoms())
def test_the_order_of_the_workers_does_not_matter(key: bytes, there: set[int], rng: Random) -> None:
    group = [GROUP[i] for i in there]
    other = group.copy()
    rng.shuffle(other)
    assert in_order(group, key) == in_order(other, key)
    assert owner(group, key) is in_order(group, key)[0]


@given(KEYS)
def test_who_comes_next_stands_in(key: bytes) -> None:
    order = in_order(GROUP, key)
    for gone in range(1, len(order)):
        assert owner([worker for worker in GROUP if worker not in order[:gone]], key) is order[gone]


def test_keys_are_spread() -> None:
    counts = Counter(owner(GROUP, b"user-%d" % number).url for number in range(4000))
    assert len(counts) == 8
    assert min(counts.values()) > 400, "500 each on average"


def test_the_decision_is_the_same_in_every_process_and_version() -> None:
    """Python's own hash would differ; a change here moves every session of a running fleet."""
    ports = [owner(GROUP, b"user-%d" % number).port for number in range(12)]
    assert ports == [4, 8, 4, 3, 3, 4, 8, 3, 3, 5, 3, 4]
