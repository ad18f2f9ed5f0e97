"""Which kernel configuration serves which problem size."""

import pytest
from qmetric.triton_kernels.config import choose_config


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("answers", [1, 2, 3, 9, 16, 17, 33, 64])
@pytest.mark.parametrize("batch", [1, 64, 5000, 1_000_000])
def test_the_choice_fits_the_problem(batch: int, answers: int, bits: int) -> None:
    for dimensions in (1, 64, 1024, 5000):
        config = choose_config(batch, answers, dimensions, bits)
        assert answers <= config.width <= config.rows
        assert config.rows in ((8, 16, 32, 64) if config.split_k else (16, 32, 64))
        assert config.block_k % (8 * config.vector) == 0
        assert not (config.cache and config.evict)
        clusters = config.rows // config.width * (1 if config.split_k else config.warps)
        assert config.programs(batch) * clusters >= batch > (config.programs(batch) - 1) * clusters
        # The warps' sums meet in shared memory.
        assert not config.split_k or config.warps * config.rows**2 * 4 <= 128 << 10


@pytest.mark.parametrize(("answers", "first_streaming"), [(1, 4096), (3, 4096), (9, 4096), (17, 512), (64, 512)])
def test_few_clusters_divide_the_dimensions(answers: int, first_streaming: int) -> None:
    assert choose_config(first_streaming - 1, answers, 1024, 16).split_k
    assert not choose_config(first_streaming, answers, 1024, 16).split_k
