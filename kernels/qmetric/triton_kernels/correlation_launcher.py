"""Launches the kernels of `correlation_cosine`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from qmetric.triton_kernels.columns import columns_kernel
from qmetric.triton_kernels.config import power_of_two
from qmetric.triton_kernels.correlation_config import (
    MAX_FUSED_ANSWERS,
    CorrelationConfig,
    blocks_of,
    choose_correlation_config,
    pair_slots,
)
from qmetric.triton_kernels.launcher import call_on_device, make_launch
from qmetric.triton_kernels.rows import rows_kernel
from qmetric.triton_kernels.workspace import workspace

COLUMNS_AT_ONCE = 64  # normalised by one program
_COUNTERS = 16  # words, one for each answer
_MAX_PREPARED = 4096  # shapes

Run = Callable[[tuple[Tensor, ...], Tensor], None]
_prepared: dict[tuple[object, ...], Run] = {}


def can_launch(states: Sequence[Tensor]) -> bool:
    """Whether one launch serves so many answers."""
    return len(states) <= MAX_FUSED_ANSWERS


def launch_correlation(states: Sequence[Tensor], s: Tensor, config: CorrelationConfig | None = None) -> None:
    """Fill s[k, k] from states[i] [n_i, h]; the arguments are valid and contiguous.

    `config` overrides the automatic choice (benchmarks).
    """
    lengths = tuple(x.shape[0] for x in states)
    first = states[0]
    aligned = tuple(x.data_ptr() % 16 == 0 for x in states)
    key = (lengths, first.shape[1], first.dtype, aligned, first.device, config)
    run = _prepared.get(key)
    if run is None:
        if len(_prepared) >= _MAX_PREPARED:
            _prepared.clear()
        config = config or choose_correlation_config(
            lengths, first.shape[1], 8 * first.element_size(), _shared_bytes(first.device)
        )
        prepare = _prepare_columns if config.form == "columns" else _prepare_rows
        run = _prepared[key] = prepare(config, lengths, first.shape[1])
    run(tuple(states), s)


def _prepare_columns(config: CorrelationConfig, lengths: tuple[int, ...], hidden: int) -> Run:
    answers = len(lengths)
    tiles = config.programs(lengths, hidden)
    slots = pair_slots(answers)
    squares = answers * -(-hidden // config.block) * config.block
    constants = (hidden, answers, config.block, config.depth, max(2, power_of_two(answers)), slots)
    launch = make_launch(columns_kernel, tiles, constants, config.options())

    def run(states: tuple[Tensor, ...], s: Tensor) -> None:
        words = workspace(s.device, squares + tiles * slots)
        call_on_device(launch, s, states, lengths, words, words[squares:])

    return run


def _prepare_rows(config: CorrelationConfig, lengths: tuple[int, ...], hidden: int) -> Run:
    answers = len(lengths)
    tiles = config.programs(lengths, hidden)
    slots = pair_slots(answers)
    column_blocks = -(-hidden // COLUMNS_AT_ONCE)
    rows = blocks_of(lengths, config.block) * config.block
    constants = (hidden, answers, config.block, config.depth, COLUMNS_AT_ONCE, config.chunk, slots)
    launch = make_launch(rows_kernel, answers * column_blocks + tiles, constants, config.options())

    def run(states: tuple[Tensor, ...], s: Tensor) -> None:
        units = s.new_empty((rows, column_blocks * COLUMNS_AT_ONCE), dtype=torch.bfloat16)
        words = workspace(s.device, _COUNTERS + tiles * slots)
        call_on_device(launch, s, states, lengths, units, words[_COUNTERS:], words, tiles)

    return run


def _shared_bytes(device: torch.device) -> int:
    if device.type != "cuda":
        return 227 << 10
    return int(torch.cuda.get_device_properties(device).shared_memory_per_block_optin)
