"""Which kernel serves which problem of `correlation_cosine`, and with which configuration.

The numbers come from measurements on an H200 (see `kernels/NOTES.md`). Of two forms, [h, h] and [n, n], the one with
the shorter estimate is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qmetric.triton_kernels.config import power_of_two

MAX_FUSED_ANSWERS = 10  # with more, the [h, h] tiles of all answers do not fit a program's registers
_MAX_ROWS_FORM_WORDS = 1 << 22  # of the workspace: 16 MiB
_SMALL_BLOCK = 64
_FOUR_STAGES = 4 * 2 * 128 * 64 * 2  # bytes of two operands of 128 rows
_MULTIPROCESSORS = 132  # of the GPU that was measured


@dataclass(frozen=True, slots=True)
class CorrelationConfig:
    """The compile-time choices of one kernel.

    `form`: "columns" for tiles of the C_i [h, h], "rows" for tiles of the T_i T_j^T [n, n]. `block`: side of a tile.
    `depth`: rows (form "rows": columns) that a tile takes at once. `chunk`: form "rows": tokens that are normalised
    at once. `warps`, `stages`: of a program, and loads that are on their way at once.
    """

    form: Literal["columns", "rows"]
    block: int
    depth: int
    warps: int
    stages: int
    chunk: int = 0

    def options(self) -> dict[str, int]:
        """The options of Triton's compiler."""
        return {"num_warps": self.warps, "num_stages": self.stages}

    def programs(self, lengths: Sequence[int], hidden: int) -> int:
        """The number of tiles."""
        side = blocks_of(lengths, self.block) if self.form == "rows" else -(-hidden // self.block)
        return side * (side + 1) // 2


def blocks_of(lengths: Sequence[int], block: int) -> int:
    """Blocks of rows, each of one answer."""
    return sum(-(-length // block) for length in lengths)


def pair_slots(answers: int) -> int:
    """Words in which a tile's shares of all pairs i <= j are kept: a power of two."""
    return max(4, power_of_two(answers * (answers + 1) // 2))


def choose_correlation_config(
    lengths: Sequence[int], hidden: int, bits: int, shared_bytes: int = 227 << 10
) -> CorrelationConfig:
    """The configuration for k answers of these lengths, `bits` an element; programs may have `shared_bytes`."""
    rows = _rows_config(lengths, hidden, shared_bytes)
    words = rows.programs(lengths, hidden) * pair_slots(len(lengths))
    # Without any token there is no tile of that form.
    if 0 < words <= _MAX_ROWS_FORM_WORDS and _rows_microseconds(rows, lengths, hidden) < _columns_microseconds(
        lengths, hidden
    ):
        return rows
    return _columns_config(len(lengths), bits, shared_bytes)


def _columns_config(answers: int, bits: int, shared_bytes: int) -> CorrelationConfig:
    depth, warps, stages = (32, 4, 3) if answers <= 3 else (16, 4, 4) if answers <= 5 else (16, 8, 3)
    stage = answers * 2 * depth * _SMALL_BLOCK * bits // 8
    return CorrelationConfig("columns", _SMALL_BLOCK, depth, warps, max(2, min(stages, shared_bytes // stage)))


def _rows_config(lengths: Sequence[int], hidden: int, shared_bytes: int) -> CorrelationConfig:
    chunk = min(512, max(64, power_of_two(max(lengths))))
    small = CorrelationConfig("rows", _SMALL_BLOCK, 64, 4, 4, min(256, chunk))
    if small.programs(lengths, hidden) <= _MULTIPROCESSORS:
        return small
    large = CorrelationConfig("rows", 128, 64, 8, 3, chunk)
    # With a fourth stage, two programs do not fit one multiprocessor: few tiles have one each.
    alone = large.programs(lengths, hidden) <= _MULTIPROCESSORS
    return replace(large, stages=4) if alone and shared_bytes >= _FOUR_STAGES else large


def _columns_microseconds(lengths: Sequence[int], hidden: int) -> float:
    """Every tile takes all answers at once, as long as the longest; few tiles wait for memory."""
    side = -(-hidden // _SMALL_BLOCK)
    least, of_tile = (0.0016, 26e-6) if len(lengths) <= 5 else (0.009, 72e-6)
    return 6 + max(lengths) * len(lengths) * max(least, side * (side + 1) // 2 * of_tile)


def _rows_microseconds(config: CorrelationConfig, lengths: Sequence[int], hidden: int) -> float:
    if config.block == _SMALL_BLOCK:
        return 7 + hidden * 0.004
    return 7 + hidden * max(0.0058, config.programs(lengths, hidden) * 80e-6)
