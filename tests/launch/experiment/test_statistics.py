"""Means, percentiles and intervals against values computed by hand."""

import pytest

from launch.experiment.statistics import (
    latency_summary,
    mean_interval,
    mean_summary,
    paired_difference,
    ratio_interval,
    share_interval,
)


def test_percentiles_are_interpolated_between_neighbours() -> None:
    told = latency_summary([1.0, 2.0, 3.0, 4.0, 5.0])
    # The p-th quantile of n sorted values lies at (n - 1) p: 4 * 0.95 = 3.8, so 4 + 0.8 * (5 - 4).
    assert (told["mean"], told["median"]) == (3.0, 3.0)
    assert (told["p95"], told["p99"]) == (pytest.approx(4.8), pytest.approx(4.96))


def test_one_value_has_no_interval() -> None:
    assert mean_interval([2.5]) is None
    told = latency_summary([2.5])
    assert {told["mean"], told["median"], told["p95"], told["p99"]} == {2.5}
    assert (told["interval"], told["intervals"]) == (None, {"median": None, "p95": None, "p99": None})


def test_batches_are_resampled_whole() -> None:
    """Two batches: the resampled means are those of either one, or of both, whatever is in them."""
    values, batches = [1.0, 3.0, 10.0, 20.0, 30.0], [0, 0, 1, 1, 1]
    assert mean_interval(values, batches) == (2.0, 20.0)
    assert mean_interval(values, [0] * 5) is None, "one batch tells nothing of others"
    told = latency_summary(values, batches)
    assert told["mean"] == pytest.approx(12.8)
    assert told["intervals"]["median"] == [2.0, 20.0]
    ratio = ratio_interval(values, [2.0, 2.0, 10.0, 10.0, 10.0], batches)
    assert ratio == {"ratio": pytest.approx(64 / 34), "interval": pytest.approx([1.0, 2.0])}
    assert paired_difference(values, [0.5] * 5, [3] * 5) == {"difference": pytest.approx(12.3), "interval": None}
    assert ratio_interval([1.0, 2.0], [2.0, 2.0], [0, 0]) == {"ratio": 0.75, "interval": None}


def test_the_interval_of_two_values_is_all_of_their_range() -> None:
    # Resampled means are 0, 1/2 and 1 with probabilities 1/4, 1/2 and 1/4: the outer 2.5% are 0 and 1.
    assert mean_interval([0.0, 1.0]) == (0.0, 1.0)


def test_the_interval_of_a_share_is_wilsons() -> None:
    # With z = 1.96 and n = 10, all right: the upper end is 1, the lower n / (n + z * z) = 10 / 13.8415.
    told = mean_summary([1.0] * 10)
    assert told == {"mean": 1.0, "interval": pytest.approx([10 / 13.8415, 1.0], abs=1e-4)}
    # 81 of 263: Newcombe's first example (1998) has 0.2553 to 0.3662.
    assert share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_the_interval_of_a_percentile_is_of_values_that_were_seen() -> None:
    told = latency_summary([1.0] * 50 + [9.0] * 50)
    assert told["intervals"]["median"] == [1.0, 9.0]
    assert told["intervals"]["p99"] == [9.0, 9.0]


def test_the_difference_of_paired_shares_without_disagreement_has_a_width() -> None:
    told = paired_difference([1.0] * 20, [1.0] * 20)
    # Both Wilson intervals reach z * z / (n + z * z) below 1, and the pairs tell nothing of a correlation.
    assert told == {"difference": 0.0, "interval": [pytest.approx(-0.1611, abs=1e-4), pytest.approx(0.1611, abs=1e-4)]}


def test_the_difference_of_paired_shares_by_hand() -> None:
    # 40 pairs: both right 20, only one side 10, only the other 5, neither 5; shares 0.75 and 0.625.
    own = [1.0] * 20 + [1.0] * 10 + [0.0] * 5 + [0.0] * 5
    other = [1.0] * 20 + [0.0] * 10 + [1.0] * 5 + [0.0] * 5
    # ad - bc = 20 * 5 - 10 * 5 = 50, less n / 2 = 20 is 30; phi = 30 / sqrt(30 * 10 * 25 * 15) = 30 / 335.41.
    # Wilson: 0.75 has 0.59806 to 0.85813, 0.625 has 0.47032 to 0.75777.
    a, b, phi = 0.75 - 0.59806, 0.75777 - 0.625, 30 / 335.41
    c, d = 0.85813 - 0.75, 0.625 - 0.47032
    low = 0.125 - (a * a - 2 * phi * a * b + b * b) ** 0.5
    high = 0.125 + (c * c - 2 * phi * c * d + d * d) ** 0.5
    told = paired_difference(own, other)
    assert told == {"difference": 0.125, "interval": [pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4)]}


def test_scores_that_are_no_shares_keep_the_bootstrap() -> None:
    assert mean_summary([0.25, 0.75]) == {"mean": 0.5, "interval": [0.25, 0.75]}


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
