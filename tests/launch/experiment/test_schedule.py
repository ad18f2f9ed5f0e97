"""The order of runs."""

from collections import Counter

from launch.experiment.schedule import blocks

ARMS = ("dense", "tree", "splice", "exit")


def test_each_arm_is_as_often_the_first() -> None:
    runs = [*blocks({"sums": 12}, {1: None}, ARMS, seed=3)]
    assert len(runs) == 48
    places = Counter((index % 4, block.arm) for index, block in enumerate(runs))
    assert set(places.values()) == {3}
    assert runs == [*blocks({"sums": 12}, {1: None}, ARMS, seed=3)]


def test_each_number_at_once_has_its_own_number_of_questions() -> None:
    runs = [*blocks({"sums": 40, "few": 3}, {1: 2, 8: 16}, ("tree",), seed=0)]
    told = [(block.benchmark, block.concurrency, len(block.questions)) for block in runs]
    assert told == [*[("sums", 1, 1)] * 2, *[("sums", 8, 8)] * 2, *[("few", 1, 1)] * 2, ("few", 8, 3)]


def test_all_arms_have_a_batch_before_the_next_one() -> None:
    runs = [*blocks({"sums": 5}, {2: None}, ARMS, seed=0)]
    assert [block.questions for block in runs] == [batch for batch in ((0, 1), (2, 3), (4,)) for _ in ARMS]
