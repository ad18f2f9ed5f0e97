"""The Q-metric of many clusters at once: one `q_metric` launch for all that share their parameters.

Clusters that are compared by hidden states have a launch each.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from qmetric import correlation_cosine, q_metric
from qmetric.reference import scores
from torch import Tensor


@dataclass(frozen=True)
class ClusterInput:
    """One cluster to measure.

    Attributes:
        embeddings: One float32 tensor [m, d] for each of its N answers; all clusters' are on one device.
            With `by_correlation`, their hidden states [tokens, h].
        confidences: N of them; NaN where unknown.
        gamma, tau: As in `q_metric`.
        by_correlation: Whether similarities are those of `correlation_cosine`.
    """

    embeddings: Sequence[Tensor]
    confidences: Sequence[float]
    gamma: float
    tau: float
    by_correlation: bool = False


@dataclass(frozen=True)
class ClusterMetrics:
    """C, P, Q and the N x N similarities S of a cluster, as in `Agreement`."""

    C: float
    P: float
    Q: float
    S: list[list[float]]


def measure_clusters(clusters: Sequence[ClusterInput]) -> list[ClusterMetrics]:
    """The metrics of each cluster, in order; raises what `q_metric` raises, as for N outside 1 to 64."""
    groups: dict[tuple[float, float, torch.Size], list[int]] = defaultdict(list)
    metrics: dict[int, ClusterMetrics] = {}
    for index, cluster in enumerate(clusters):
        if cluster.by_correlation:
            metrics[index] = _measure_by_correlation(cluster)
        else:
            groups[cluster.gamma, cluster.tau, cluster.embeddings[0].shape].append(index)
    for (gamma, tau, _), indices in groups.items():
        measured = _measure_group([clusters[index] for index in indices], gamma, tau)
        metrics.update(zip(indices, measured, strict=True))
    return [metrics[index] for index in range(len(clusters))]


def _measure_by_correlation(cluster: ClusterInput) -> ClusterMetrics:
    s = correlation_cosine(list(cluster.embeddings))
    confidences = torch.tensor([list(cluster.confidences)], dtype=torch.float32, device=s.device)
    q, c, p = scores(s[None], confidences, None, cluster.gamma, cluster.tau)
    return ClusterMetrics(c.item(), p.item(), q.item(), s.tolist())


def _measure_group(clusters: list[ClusterInput], gamma: float, tau: float) -> list[ClusterMetrics]:
    """Clusters of equal parameters, padded to the largest: embeddings [clusters, N, m, d], S [clusters, N, N]."""
    counts = [len(cluster.embeddings) for cluster in clusters]
    padded_count = max(counts)
    first = clusters[0].embeddings[0]
    embeddings = first.new_zeros((len(clusters), padded_count, *first.shape))
    for row, cluster, count in zip(embeddings, clusters, counts, strict=True):
        row[:count] = torch.stack(list(cluster.embeddings))
    padded = [[*cluster.confidences, *[0.0] * (padded_count - len(cluster.confidences))] for cluster in clusters]
    confidences = torch.tensor(padded, dtype=torch.float32, device=first.device)
    mask = torch.arange(padded_count, device=first.device) < torch.tensor(counts, device=first.device)[:, None]
    result = q_metric(embeddings, confidences, mask, gamma, tau, return_similarity=True)
    assert result.S is not None
    columns = zip(result.C.tolist(), result.P.tolist(), result.Q.tolist(), result.S.tolist(), counts, strict=True)
    return [ClusterMetrics(c, p, q, [row[:count] for row in s[:count]]) for c, p, q, s, count in columns]
