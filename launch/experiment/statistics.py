"""Means, percentiles and bootstrap intervals; the same numbers for the same data on every machine."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0

Interval = tuple[float, float]
Values = NDArray[np.float64]


def mean_interval(values: Sequence[float]) -> Interval:
    """The bootstrap interval of the mean, by percentiles, at 95%; of one value that value twice."""
    return _interval(values, lambda samples: samples.mean(axis=1))


def _interval(values: Sequence[float], statistic: Callable[[Values], Values]) -> Interval:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("there are no values")
    picks = np.random.default_rng(SEED).integers(0, array.size, size=(RESAMPLES, array.size))
    low, high = np.quantile(statistic(array[picks]), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def latency_summary(seconds: Sequence[float]) -> dict[str, Any]:
    """Mean with its interval, median, and 95th and 99th percentile (interpolated between neighbours)."""
    median, p95, p99 = np.quantile(np.asarray(seconds, dtype=np.float64), [0.5, 0.95, 0.99])
    return {
        "mean": float(np.mean(seconds)),
        "median": float(median),
        "p95": float(p95),
        "p99": float(p99),
        "interval": list(mean_interval(seconds)),
    }


def mean_summary(values: Sequence[float]) -> dict[str, Any] | None:
    """Mean and its interval; None without values."""
    return {"mean": float(np.mean(values)), "interval": list(mean_interval(values))} if values else None


def paired_difference(values: Sequence[float], against: Sequence[float]) -> dict[str, Any] | None:
    """The mean of the differences of pairs with its interval; None without pairs.

    Pairs are resampled whole, so that what both sides of a pair share (an easy question, a slow minute) cancels.
    """
    if len(values) != len(against):
        raise ValueError("pairs need as many values on either side")
    differences = [a - b for a, b in zip(values, against, strict=True)]
    found = mean_summary(differences)
    return None if found is None else {"difference": found["mean"], "interval": found["interval"]}


def ratio_interval(values: Sequence[float], against: Sequence[float]) -> dict[str, Any] | None:
    """The ratio of the means of pairs with its interval; None without pairs or for a mean of 0."""
    if not values or sum(against) == 0:
        return None
    a, b = np.asarray(values, dtype=np.float64), np.asarray(against, dtype=np.float64)
    picks = np.random.default_rng(SEED).integers(0, a.size, size=(RESAMPLES, a.size))
    ratios = a[picks].mean(axis=1) / np.maximum(b[picks].mean(axis=1), 1e-12)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {"ratio": float(a.mean() / b.mean()), "interval": [float(low), float(high)]}
