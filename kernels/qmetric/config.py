"""Which shape of the kernel serves which shape of problem.

The numbers come from measurements on an H200 (see `kernels/NOTES.md`); the rules are few on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

_SMALL_BATCH_TILES = 1024  # fewer tiles than this leave most of a large GPU's warp slots empty: split K over warps
_FULL_TILES = 8192  # from here on the tiles of one warp keep every multiprocessor full by their number alone


@dataclass(frozen=True, slots=True)
class Config:
    """One compiled form of the kernel.

    `rows`: answers in a warp's tile (16, 32 or 64). `width`: answers kept for one cluster, a power of two; a tile
    holds `rows // width` clusters. `vector`: dimensions that one thread loads together; `block_k`: those loaded at
    once, a multiple of eight vectors. `warps`: warps of a program. `split_k`: they share one tile, which holds one
    cluster, and divide the dimensions (`split_kernel.py`). `prefetch`: load a block ahead (`gram.py` only). `cache`,
    `evict`: Triton's cache modifier and eviction policy of the embedding loads (not both). `registers`: upper limit a
    thread, or None.
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
        assert not self.split_k or (self.width == self.rows and not self.prefetch)

    def programs(self, batch: int) -> int:
        """The number of programs (CTAs) that `batch` clusters need."""
        clusters = 1 if self.split_k else self.rows // self.width * self.warps
        return -(-batch // clusters)


def power_of_two(value: int) -> int:
    """The smallest power of two that is not below `value`."""
    return 1 << max(0, value - 1).bit_length()


def choose(batch: int, answers: int, dimensions: int, bits: int) -> Config:
    """The form for embeddings of [batch, answers, dimensions] with `bits` bits an element (16 or 32)."""
    rows = max(16, power_of_two(answers))
    vector = 128 // bits
    least_block = 8 * vector
    width = max(4, power_of_two(answers)) if rows == 16 else rows
    tiles = -(-batch // (rows // width))
    if tiles < _SMALL_BATCH_TILES:
        warps = min(8 if rows == 16 else 4, power_of_two(-(-dimensions // least_block)))
        whole = -(-dimensions // warps)  # what a warp has to load
        block_k = least_block * (2 if rows == 16 and whole > least_block else 1)
        return Config(rows, rows, block_k, vector, warps, split_k=True)
    if rows == 64:
        return Config(rows, width, least_block, vector, warps=1, split_k=False)
    # A block ahead hides the trip to memory; few tiles need more bytes on the way each.
    blocks = 1 if bits == 32 else 4 if rows == 16 and tiles < _FULL_TILES else 2
    return Config(rows, width, blocks * least_block, vector, warps=1, split_k=False, prefetch=True)
