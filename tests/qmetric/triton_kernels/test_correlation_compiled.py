"""The kernels of `correlation_cosine` compiled for Hopper, without a GPU; which of them serves which problem."""

import re
from typing import Any

import pytest
from qmetric.triton_kernels.correlation_config import (
    MAX_FUSED_ANSWERS,
    CorrelationConfig,
    choose_correlation_config,
    pair_slots,
)


def compiled(config: CorrelationConfig, answers: int, hidden: int) -> Any:
    import triton
    from qmetric.triton_kernels.columns import columns_kernel
    from qmetric.triton_kernels.rows import rows_kernel
    from triton.backends.compiler import GPUTarget

    constants = {"H": hidden, "K": answers, "BLOCK": config.block, "PAIRS": pair_slots(answers)}
    signature: dict[str, Any] = {"out_ptr": "*fp32", "x_ptrs": ("*bf16",) * answers, "lengths": ("i32",) * answers}
    if config.form == "columns":
        constants |= {"BLOCK_N": config.depth, "ANSWERS": 4}
        signature |= {"square_ptr": "*i32", "part_ptr": "*i32"}
    else:
        constants |= {"BLOCK_H": config.depth, "BLOCK_C": 64, "ROWS": config.chunk}
        signature |= {"unit_ptr": "*bf16", "part_ptr": "*i32", "count_ptr": "*i32", "parts": "i32"}
    signature |= dict.fromkeys(constants, "constexpr")
    aligned: Any = [["tt.divisibility", 16]]
    places = [(1, i) for i in range(answers)] + [(3,), (4,)]
    kernel = columns_kernel if config.form == "columns" else rows_kernel
    source = triton.compiler.ASTSource(kernel, signature, constants, dict.fromkeys(places, aligned))
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=config.options())


@pytest.mark.parametrize(("lengths", "hidden", "form"), [([512] * 3, 1024, "columns"), ([512] * 3, 2560, "rows")])
def test_products_are_those_of_hopper_and_nothing_spills(lengths: list[int], hidden: int, form: str) -> None:
    config = choose_correlation_config(lengths, hidden, 16)
    assert config.form == form
    kernel = compiled(config, len(lengths), hidden)
    assert re.search(r"wgmma\.mma_async\S+\.m64n(64|128)k16\.f32\.bf16\.bf16", kernel.asm["ptx"])
    assert "cp.async.cg.shared.global" in kernel.asm["ptx"]
    names = re.findall(r"\t(?:@!?U?P\w+ )?([A-Z]\w+)", kernel.asm["sass"])
    assert not {"LDL", "STL"} & set(names)
    # Two programs share a multiprocessor where there are more tiles than multiprocessors.
    assert (kernel.metadata.shared <= 113 << 10) == (form == "columns")


@pytest.mark.parametrize(
    ("lengths", "hidden", "form"),
    [
        ([64] * 3, 1024, "columns"),
        ([1024] * 3, 1024, "columns"),
        ([256] * 3, 4096, "rows"),
        ([147, 210, 155], 2560, "rows"),
        ([256] * 9, 384, "rows"),
        ([2048] * 9, 1024, "columns"),
        ([0, 0], 1024, "columns"),
    ],
)
def test_the_form_follows_the_shape(lengths: list[int], hidden: int, form: str) -> None:
    assert choose_correlation_config(lengths, hidden, 16).form == form


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("answers", range(1, MAX_FUSED_ANSWERS + 1))
def test_the_choice_fits_the_machine(answers: int, bits: int) -> None:
    for longest in (0, 1, 65, 700, 100_000):
        for hidden in (1, 64, 1000, 16384):
            lengths = [longest, *[1] * (answers - 1)]
            config = choose_correlation_config(lengths, hidden, bits, 99 << 10)
            assert config.programs(lengths, hidden) > 0
            assert config.programs(lengths, hidden) * pair_slots(answers) < 1 << 23, "words of the workspace"
            assert config.stages == (3 if config.form == "rows" and config.block == 128 else config.stages) >= 2
