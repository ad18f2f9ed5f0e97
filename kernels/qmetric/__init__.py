"""Batched Frobenius cosines and the Q-metric of Faster-MoA, fused into one Triton launch, with a twin in plain torch.

`q_metric` and `frobenius_cosine` choose by where the embeddings are: the Triton kernel on a CUDA GPU of compute
capability 8.0 or later, plain torch elsewhere. `ClusterState` is the incremental form.
`correlation_cosine` compares token-level hidden states instead of embeddings.
"""

from qmetric.api import frobenius_cosine, q_metric
from qmetric.correlation import correlation_cosine
from qmetric.incremental import ClusterState
from qmetric.result import QMetric

__all__ = ["ClusterState", "QMetric", "correlation_cosine", "frobenius_cosine", "q_metric"]
