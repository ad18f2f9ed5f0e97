"""Q of many clusters at once: one `q_metric` launch for all that share their parameters."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from qmetric import q_metric
from torch import Tensor


@dataclass(frozen=True)
class ClusterInput:
    """One cluster to measure.

    Attributes:
        embeddings: Of its N answers: float32 [m, d] each; all clusters' are on one device.
        confidences: N of them; NaN where unknown.
        gamma, tau: As in `q_metric`.
    """

    embeddings: Sequence[Tensor]
    confidences: Sequence[float]
    gamma: float
    tau: float


@dataclass(frozen=True)
class ClusterMetrics:
    """C, P, Q and the N x N similarities of a cluster."""

    C: float
    P: float
    Q: float
    S: list[list[float]]


def measure_clusters(clusters: Sequence[ClusterInput]) -> list[ClusterMetrics]:
    """The figures of each cluster, in order; raises what `q_metric` does, as for N outside 1 to 64."""
    groups: dict[tuple[float, float, torch.Size], list[int]] = defaultdict(list)
    for index, cluster in enumerate(clusters):
        groups[cluster.gamma, cluster.tau, cluster.embeddings[0].shape].append(index)
    figures: dict[int, ClusterMetrics] = {}
    for (gamma, tau, _), indices in groups.items():
        measured = _launch([clusters[index] for index in indices], gamma, tau)
        figures.update(zip(indices, measured, strict=True))
    return [figures[index] for index in range(len(clusters))]


def nan_from_json(value: float | None) -> float:
    """A number that came as JSON, where NaN is null."""
    return math.nan if value is None else value


def _launch(clusters: list[ClusterInput], gamma: float, tau: float) -> list[ClusterMetrics]:
    """Clusters of equal parameters, padded to the largest."""
    counts = [len(cluster.embeddings) for cluster in clusters]
    most = max(counts)
    like = clusters[0].embeddings[0]
    embeddings = like.new_zeros((len(clusters), most, *like.shape))
    for row, cluster, count in zip(embeddings, clusters, counts, strict=True):
        row[:count] = torch.stack(list(cluster.embeddings))
    padded = [[*cluster.confidences, *[0.0] * (most - len(cluster.confidences))] for cluster in clusters]
    confidences = torch.tensor(padded, dtype=torch.float32, device=like.device)
    mask = torch.arange(most, device=like.device) < torch.tensor(counts, device=like.device)[:, None]
    result = q_metric(embeddings, confidences, mask, gamma, tau, return_similarity=True)
    assert result.S is not None
    columns = zip(result.C.tolist(), result.P.tolist(), result.Q.tolist(), result.S.tolist(), counts, strict=True)
    return [ClusterMetrics(c, p, q, [row[:count] for row in s[:count]]) for c, p, q, s, count in columns]
