"""The kernels compiled for Hopper, without a GPU: what the machine code must look like."""

import re
from functools import cache
from typing import Any

import pytest
from qmetric.triton_kernels.config import KernelConfig, choose_config


@cache
def compiled(config: KernelConfig, kind: str, dimensions: int, masked: bool = False, similarity: bool = True) -> Any:
    import triton
    from qmetric.triton_kernels.split import split_kernel
    from qmetric.triton_kernels.streaming import streaming_kernel
    from triton.backends.compiler import GPUTarget
    from triton.experimental.gluon._runtime import GluonASTSource

    constants: dict[str, Any] = {"K": dimensions, "ROWS": config.rows, "WIDTH": config.width}
    constants |= {"BLOCK_K": config.block_k, "VECTOR": config.vector, "WARPS": config.warps}
    if config.split_k:
        del constants["WIDTH"]
    else:
        constants |= {"PREFETCH": config.prefetch, "CACHE": config.cache, "EVICT": config.evict}
    kernel = split_kernel if config.split_k else streaming_kernel
    pointers = dict.fromkeys(("confidence_ptr", "s_ptr", "q_ptr", "c_ptr", "p_ptr"), "*fp32")
    signature = {"x_ptr": f"*{kind}", "mask_ptr": "*i1", **pointers}
    signature |= {"batch": "i32", "answers": "i32", "gamma": "fp32", "tau": "fp32"}
    if not masked:
        constants["mask_ptr"] = None
    if not similarity:
        constants["s_ptr"] = None
    signature |= dict.fromkeys(constants, "constexpr")
    source = GluonASTSource(kernel, signature, constants, {(0,): [["tt.divisibility", 16]]})
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=config.options())


@pytest.mark.parametrize(
    ("batch", "answers", "kind", "instruction"),
    [
        (65536, 9, "bf16", "m16n8k16.row.col.f32.bf16"),
        (65536, 3, "fp16", "m16n8k16.row.col.f32.f16"),
        (65536, 5, "fp32", "m16n8k8.row.col.f32.tf32"),
        (1, 3, "bf16", "m16n8k16.row.col.f32.bf16"),
    ],
)
def test_loads_are_wide_and_products_stay_in_registers(batch: int, answers: int, kind: str, instruction: str) -> None:
    config = choose_config(batch, answers, 1024, 32 if kind == "fp32" else 16)
    kernel = compiled(config, kind, 1024, False, similarity=True)
    code = kernel.asm["ptx"]
    assert instruction in code
    assert re.search(r"ld\.(volatile\.)?global[\w.:]*\.v4\.b32", code)
    assert "ldmatrix" not in code
    # Shared memory only where the warps' partial sums meet.
    assert kernel.metadata.shared == (4 * config.warps * config.rows**2 if config.split_k else 0)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("answers", "kind", "dimensions"),
    [(3, "bf16", 1024), (9, "bf16", 1536), (5, "fp32", 384), (32, "bf16", 768), (64, "bf16", 1024)],
)
def test_a_small_batch_waits_for_memory_once(answers: int, kind: str, dimensions: int, masked: bool) -> None:
    config = choose_config(1, answers, dimensions, 32 if kind == "fp32" else 16)
    kernel = compiled(config, kind, dimensions, masked, similarity=answers <= 16)
    names = re.findall(r"\t(?:@!?U?P\w+ )?([A-Z]\w+)", kernel.asm["sass"])
    last_load = max(i for i, name in enumerate(names) if name == "LDG")
    # Larger tiles may use their confidences before the last embeddings are asked for.
    waiting = {"HMMA", "FMUL", "FADD", "SHFL", "MUFU"} if answers <= 16 else {"HMMA"}
    assert not waiting & set(names[:last_load])
    # Every warp has the whole matrix of few answers, so the warps meet once.
    assert names.count("BAR") == 1 or answers > 16
    # With a mask, 64 rows need a few registers more than there are.
    assert not {"LDL", "STL"} & set(names) or (masked and answers == 64)
