"""Which shape of the kernel serves which shape of problem.

The numbers come from measurements on an H200 (see `kernels/NOTES.md`); the rules are few on purpose.
"""

from __future__ import annotations

from dataclasses import dataclass

_FEW_CLUSTERS = 512  # fewer leave most of a large GPU idle when each has one warp: split K over warps
_MORE_CLUSTERS = 4096  # below, up to 16 answers: split over two warps; measured at 1024 clusters only
_FULL_TILES = 8192  # from here on the tiles of one warp keep every multiprocessor full by their number alone


@dataclass(frozen=True, slots=True)
class Config:
    """One compiled form of the kernel.

    `rows`: answers in a warp's tile (16, 32 or 64; split also 8). `width`: answers kept for one cluster, a power of
    two; a tile holds `rows // width` clusters. `vector`: dimensions that one thread loads together; `block_k`: those
    a warp loads at once, a multiple of eight vectors. `warps`: warps of a program. `registers`: upper limit a thread,
    or None.

    `split_k`: the warps share one tile, which holds one cluster, and divide the dimensions (`split_kernel.py`).

    For `gram.py` only: `prefetch`: load a block ahead. `cache`, `evict`: Triton's cache modifier and eviction policy
    of the embedding loads (not both).
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
        """What Triton's compiler is told.

        Without any limit, the assembler saves registers by putting loads behind arithmetic, so a split kernel has the
        limit that the hardware sets.
        """
        registers = self.registers or (min(255, 65536 // (32 * self.warps)) if self.split_k else 0)
        return {"num_warps": self.warps} | ({"maxnreg": registers} if registers else {})


def power_of_two(value: int) -> int:
    """The smallest power of two that is not below `value`."""
    return 1 << max(0, value - 1).bit_length()


def choose(batch: int, answers: int, dimensions: int, bits: int) -> Config:
    """The form for embeddings of [batch, answers, dimensions] with `bits` bits an element (16 or 32)."""
    vector = 128 // bits
    least_block = 8 * vector
    rows = max(8, power_of_two(answers))
    if batch < (_MORE_CLUSTERS if rows <= 16 else _FEW_CLUSTERS):
        return _split(rows, dimensions, vector, few=batch < _FEW_CLUSTERS)
    rows = max(16, rows)
    width = max(4, power_of_two(answers)) if rows == 16 else rows
    tiles = -(-batch // (rows // width))
    if rows == 64:
        return Config(rows, width, least_block, vector, warps=1, split_k=False)
    # A block ahead hides the trip to memory; few tiles need more bytes on the way each.
    blocks = 1 if bits == 32 else 4 if rows == 16 and tiles < _FULL_TILES else 2
    return Config(rows, width, blocks * least_block, vector, warps=1, split_k=False, prefetch=True)


def _split(rows: int, dimensions: int, vector: int, few: bool) -> Config:
    least_block = 8 * vector
    # Measured with 16 bits; of float32 twice the warps, so that each has as many bytes to wait for.
    most_warps = 2 if not few else 8 if rows == 64 or (rows <= 16 and vector == 4) else 4
    warps = min(most_warps, power_of_two(-(-dimensions // least_block)))
    # Two blocks are 256 bytes of a row. 64 rows of float32 and its halves fill the registers with one.
    most_blocks = 2 if few and (rows <= 16 or (rows == 64 and vector == 8)) else 1
    blocks = min(most_blocks, power_of_two(-(-dimensions // (warps * least_block))))
    return Config(rows, rows, blocks * least_block, vector, warps, split_k=True)
