"""The problems that are timed."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Shape:
    """Embeddings of [batch, answers, chunks, size] and their dtype."""

    batch: int
    answers: int
    chunks: int
    size: int
    dtype: torch.dtype = torch.bfloat16

    @property
    def input_bytes(self) -> int:
        """Bytes of the embeddings and confidences: what any implementation must read."""
        embedding: int = self.chunks * self.size * self.dtype.itemsize
        return self.batch * self.answers * (embedding + 4)

    @property
    def output_bytes(self) -> int:
        """Bytes of Q, C and P."""
        return self.batch * 12

    def __str__(self) -> str:
        kind = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[self.dtype]
        return f"{self.batch}x{self.answers}x{self.chunks}x{self.size} {kind}"


SMALL = Shape(1, 3, 1, 1024)
LARGE = Shape(65536, 9, 1, 1024)

# Cluster sizes of the paper's trees (3 and 9 agents), a MiniLM embedding in float32, an answer in four chunks, and a
# wide cluster; from one cluster to a large offline batch.
SWEEP = tuple(
    Shape(batch, *rest)
    for rest in (
        (3, 1, 1024),
        (9, 1, 1024),
        (5, 1, 384, torch.float32),
        (9, 4, 384),
        (32, 1, 768),
    )
    for batch in (1, 8, 64, 1024, 16384, 65536)
)

# Where the sweep does not go: odd sizes, the widest cluster, float32 in bulk, a million clusters.
EXTRA = (
    Shape(1, 64, 1, 1024),
    Shape(16384, 64, 1, 1024),
    Shape(16384, 9, 1, 1023),
    Shape(32768, 9, 1, 1024, torch.float32),
    Shape(16384, 16, 1, 1024, torch.float16),
    Shape(1_000_000, 3, 1, 384),
)
