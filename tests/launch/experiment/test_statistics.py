"""Means, percentiles and intervals against values computed by hand."""

import pytest

from launch.experiment.statistics import (
    latency_summary,
    mean_interval,
    mean_summary,
    paired_difference,
    ratio_interval,
)


def test_percentiles_are_interpolated_between_neighbours() -> None:
    told = latency_summary([1.0, 2.0, 3.0, 4.0, 5.0])
    # The p-th quantile of n sorted values lies at (n - 1) p: 4 * 0.95 = 3.8, so 4 + 0.8 * (5 - 4).
    assert (told["mean"], told["median"]) == (3.0, 3.0)
    assert (told["p95"], told["p99"]) == (pytest.approx(4.8), pytest.approx(4.96))


def test_one_value_is_its_own_interval() -> None:
    assert mean_interval([2.5]) == (2.5, 2.5)
    assert latency_summary([2.5]) == {"mean": 2.5, "median": 2.5, "p95": 2.5, "p99": 2.5, "interval": [2.5, 2.5]}


def test_the_interval_of_two_values_is_all_of_their_range() -> None:
    # Resampled means are 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4: the outer 2.5% are 0 and 1.
    assert mean_interval([0.0, 1.0]) == (0.0, 1.0)


def test_the_interval_of_a_share_is_the_binomial_one() -> None:
    low, high = mean_interval([1.0] * 60 + [0.0] * 40)
    # 0.6 -+ 1.96 sqrt(0.6 * 0.4 / 100) = 0.6 -+ 0.096
    assert low == pytest.approx(0.504, abs=0.02)
    assert high == pytest.approx(0.696, abs=0.02)


def test_pairs_cancel_what_both_sides_share() -> None:
    easy_and_hard = [1.0, 100.0, 3.0, 50.0]
    told = paired_difference([each - 2.0 for each in easy_and_hard], easy_and_hard)
    assert told == {"difference": -2.0, "interval": [-2.0, -2.0]}
    assert paired_difference([], []) is None
    with pytest.raises(ValueError, match="pairs"):
        paired_difference([1.0], [])


def test_the_ratio_of_means() -> None:
    told = ratio_interval([1.0, 2.0], [2.0, 4.0])
    assert told == {"ratio": 0.5, "interval": [pytest.approx(0.5), pytest.approx(0.5)]}
    assert ratio_interval([], []) is None


def test_no_values_have_no_mean_and_the_same_values_the_same_interval() -> None:
    assert mean_summary([]) is None
    assert mean_summary([0.0, 1.0, 1.0]) == mean_summary([0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="no values"):
        mean_interval([])
