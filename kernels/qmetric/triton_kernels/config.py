"""The kernel's configuration, and which one serves which problem size.

The numbers come from measurements on an H200 (see `kernels/NOTES.md`).
"""

from __future__ import annotations

from dataclasses import dataclass

SPLIT_BELOW_CLUSTERS = 512
"""Fewer clusters leave most of a large GPU idle when each has one warp, so K is split over warps."""
SPLIT_SMALL_TILES_BELOW_CLUSTERS = 4096
"""Below, clusters of up to 16 answers are split over two warps; measured at 1024 clusters only."""
FULL_GPU_TILES = 8192
"""From here on, tiles of one warp keep every multiprocessor busy by their number alone."""


@dataclass(frozen=True, slots=True)
class KernelConfig:
    """The compile-time choices of one kernel.

    `rows`: answers in a warp's tile (16, 32 or 64; split also 8). `width`: answers kept for one cluster, a power of
    two; a tile holds `rows // width` clusters. `vector`: dimensions that one thread loads together; `block_k`: those
    a warp loads at once, a multiple of eight vectors. `warps`: warps of a program. `registers`: upper limit a thread,
    or None.

    `split_k`: the warps share one tile, which holds one cluster, and divide the dimensions (`split.py`).

    For `streaming.py` only: `prefetch`: load a block ahead. `cache`, `evict`: Triton's cache modifier and eviction
    policy of the embedding loads (not both).
    """

    rows: int
    width: int
    block_k: int
    vector: int
    warps: int
    split_k: bool
    prefetch: bool = False
    cache: str = ""
    evict: str = ""
    registers: int | None = None

    def __post_init__(self) -> None:
        if self.split_k:
            assert self.width == self.rows
            assert not any((self.prefetch, self.cache, self.evict))
        else:
            assert self.rows > 8

    def programs(self, batch: int) -> int:
        """The number of programs (CTAs) that `batch` clusters need."""
        clusters = 1 if self.split_k else self.rows // self.width * self.warps
        return -(-batch // clusters)

    def options(self) -> dict[str, int]:
        """The options of Triton's compiler.

        Without any limit, the assembler saves registers by putting loads behind arithmetic, so a split kernel has the
        limit that the hardware sets.
        """
        registers = self.registers or (min(255, 65536 // (32 * self.warps)) if self.split_k else 0)
        return {"num_warps": self.warps} | ({"maxnreg": registers} if registers else {})


def power_of_two(value: int) -> int:
    """The smallest power of two that is not below `value`."""
    return 1 << max(0, value - 1).bit_length()


def choose_config(batch: int, answers: int, dimensions: int, bits: int) -> KernelConfig:
    """The configuration for embeddings of [batch, answers, dimensions] with `bits` bits an element (16 or 32)."""
    vector = 128 // bits
    min_block_k = 8 * vector
    rows = max(8, power_of_two(answers))
    if batch < (SPLIT_SMALL_TILES_BELOW_CLUSTERS if rows <= 16 else SPLIT_BELOW_CLUSTERS):
        return _split_config(rows, dimensions, vector, few_clusters=batch < SPLIT_BELOW_CLUSTERS)
    rows = max(16, rows)
    width = max(4, power_of_two(answers)) if rows == 16 else rows
    tiles = -(-batch // (rows // width))
    if rows == 64:
        return KernelConfig(rows, width, min_block_k, vector, warps=1, split_k=False)
    # Loading a block ahead hides the latency of memory; few tiles need more bytes in flight each.
    blocks = 1 if bits == 32 else 4 if rows == 16 and tiles < FULL_GPU_TILES else 2
    return KernelConfig(rows, width, blocks * min_block_k, vector, warps=1, split_k=False, prefetch=True)


def _split_config(rows: int, dimensions: int, vector: int, few_clusters: bool) -> KernelConfig:
    min_block_k = 8 * vector
    # Measured with 16 bits; float32 gets twice the warps, so that each has as many bytes in flight.
    max_warps = 2 if not few_clusters else 8 if rows == 64 or (rows <= 16 and vector == 4) else 4
    warps = min(max_warps, power_of_two(-(-dimensions // min_block_k)))
    # Two blocks are 256 bytes of a row. 64 rows of float32 and its halves fill the registers with one.
    max_blocks = 2 if few_clusters and (rows <= 16 or (rows == 64 and vector == 8)) else 1
    blocks = min(max_blocks, power_of_two(-(-dimensions // (warps * min_block_k))))
    return KernelConfig(rows, rows, blocks * min_block_k, vector, warps, split_k=True)
