"""Means, percentiles and their intervals at 95%; the same numbers for the same data on every machine.

Latencies have bootstrap intervals, by percentiles, over batches of questions that ran at once. Shares of right answers
have Wilson's interval, and differences of paired shares Newcombe's: bootstrap gives an interval without width where all
answers are right, or all wrong.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0
QUANTILES = {"median": 0.5, "p95": 0.95, "p99": 0.99}

Interval = tuple[float, float]
Values = NDArray[np.float64]


def mean_interval(values: Sequence[float], batches: Sequence[int] | None = None) -> Interval | None:
    """The bootstrap interval of the mean, by percentiles, at 95%; None of fewer than two batches.

    Values of one batch ran at the same time and share what that minute was like, so batches are resampled whole.
    Without `batches` each value is one of its own.
    """
    return _interval_of(_resampled(values, batches), _means)


def _resampled(values: Sequence[float], batches: Sequence[int] | None) -> list[Values]:
    """The samples, as long as the picked batches are together, as the rows of one array of each length.

    None of fewer than two batches.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("there are no values")
    grouped = _by_batch(array, batches)
    if len(grouped) < 2:
        return []
    picks = _picks(len(grouped))
    if len({batch.size for batch in grouped}) == 1:  # as nearly always: then one look-up picks all samples
        return [np.stack(grouped)[picks].reshape(RESAMPLES, -1)]
    by_length: dict[int, list[Values]] = {}
    for pick in picks:
        sample = np.concatenate([grouped[i] for i in pick])
        by_length.setdefault(sample.size, []).append(sample)
    return [np.stack(samples) for samples in by_length.values()]


def _interval_of(resampled: Sequence[Values], statistic: Callable[[Values], Values]) -> Interval | None:
    """The interval of a statistic of the rows of an array, over all samples; None without samples."""
    return _interval(np.concatenate([statistic(samples) for samples in resampled])) if resampled else None


def _means(samples: Values) -> Values:
    means: Values = samples.mean(axis=1)
    return means


def _by_batch(array: Values, batches: Sequence[int] | None) -> list[Values]:
    if batches is None:
        return list(array[:, None])
    labels = np.asarray(batches)
    return [array[labels == label] for label in dict.fromkeys(batches)]


def _picks(size: int) -> NDArray[np.int64]:
    return np.random.default_rng(SEED).integers(0, size, size=(RESAMPLES, size))


def _interval(statistics: Values) -> Interval:
    low, high = np.quantile(statistics, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def latency_summary(seconds: Sequence[float], batches: Sequence[int] | None = None) -> dict[str, Any]:
    """Mean, median, and 95th and 99th percentile (interpolated between neighbours), with their intervals.

    `interval` is the mean's, `intervals` has the others; `batches` as of `mean_interval`. The interval of a percentile
    beyond the largest values, as p99 of fewer than a hundred, says only how much these differ.
    """
    resampled = _resampled(seconds, batches)

    def summarised(statistic: Callable[[Values], Values]) -> tuple[float, list[float] | None]:
        (value,) = statistic(np.asarray([seconds], dtype=np.float64))
        return float(value), _listed(_interval_of(resampled, statistic))

    told: dict[str, Any] = {"intervals": {}}
    told["mean"], told["interval"] = summarised(_means)
    for name, quantile in QUANTILES.items():
        told[name], told["intervals"][name] = summarised(partial(np.quantile, q=quantile, axis=1))
    return told


def _listed(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)


def mean_summary(values: Sequence[float]) -> dict[str, Any] | None:
    """Mean and its interval; None without values. Values that are all 0 or 1 are a share."""
    if not values:
        return None
    interval = share_interval(sum(values), len(values)) if _are_shares(values) else mean_interval(values)
    return {"mean": float(np.mean(values)), "interval": _listed(interval)}


def share_interval(right: float, of: int) -> Interval:
    """Wilson's score interval of a share (Wilson 1927, equation 1), at 95%."""
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)
    share, widened = right / of, 1 + z * z / of
    middle = (share + z * z / (2 * of)) / widened
    half = z / widened * math.sqrt(share * (1 - share) / of + (z / (2 * of)) ** 2)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_difference(
    values: Sequence[float], against: Sequence[float], batches: Sequence[int] | None = None
) -> dict[str, Any] | None:
    """The mean of the differences of pairs with its interval; None without pairs.

    Pairs stay together, so that what both sides share (an easy question, a slow minute) cancels; `batches` as of
    `mean_interval`.
    """
    if len(values) != len(against):
        raise ValueError("pairs need as many values on either side")
    if not values:
        return None
    differences = [a - b for a, b in zip(values, against, strict=True)]
    both_shares = _are_shares(values) and _are_shares(against)
    interval = paired_share_interval(values, against) if both_shares else mean_interval(differences, batches)
    return {"difference": float(np.mean(differences)), "interval": _listed(interval)}


def paired_share_interval(values: Sequence[float], against: Sequence[float]) -> Interval:
    """The interval of the difference of two shares on the same questions (Newcombe 1998, method 10), at 95%.

    The squares of both shares' distances to the ends of their Wilson intervals are added, less what they have in common
    by the correlation of the pairs, corrected for continuity.
    """
    n = len(values)
    both = sum(a and b for a, b in zip(values, against, strict=True))
    own, other = sum(values), sum(against)
    neither = n - own - other + both
    product = both * neither - (own - both) * (other - both)
    if product > 0:
        product = max(product - n / 2, 0.0)
    scale = math.sqrt(own * (n - own) * other * (n - other))
    correlation = product / scale if scale else 0.0
    p, q = own / n, other / n
    (p_low, p_high), (q_low, q_high) = share_interval(own, n), share_interval(other, n)

    def distance(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * correlation * a * b + b * b))

    return p - q - distance(p - p_low, q_high - q), p - q + distance(p_high - p, q - q_low)


def ratio_interval(
    values: Sequence[float], against: Sequence[float], batches: Sequence[int] | None = None
) -> dict[str, Any] | None:
    """The ratio of the means of pairs with its bootstrap interval; None without pairs or for a mean of 0.

    `batches` as of `mean_interval`.
    """
    if not values or sum(against) == 0:
        return None
    own, other = (_by_batch(np.asarray(side, dtype=np.float64), batches) for side in (values, against))
    own_sums, other_sums = (np.asarray([batch.sum() for batch in side]) for side in (own, other))
    ratio = float(own_sums.sum() / other_sums.sum())
    if len(own) < 2:
        return {"ratio": ratio, "interval": None}
    picks = _picks(len(own))
    ratios = own_sums[picks].sum(axis=1) / np.maximum(other_sums[picks].sum(axis=1), 1e-12)
    return {"ratio": ratio, "interval": list(_interval(ratios))}


def _are_shares(values: Sequence[float]) -> bool:
    return all(value in (0, 1) for value in values)
