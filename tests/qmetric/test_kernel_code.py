"""The kernels themselves, without a GPU: run by Triton's interpreter, and compiled for Hopper."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from qmetric.triton_kernels.config import KernelConfig, choose_config

HERE = Path(__file__).parent


def test_kernels_in_the_interpreter() -> None:
    # The interpreter is chosen when Triton is imported, so it needs its own process.
    environment = os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "interpreted.py")]
    found = subprocess.run(command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


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
    kernel = compiled(config, kind, 1024)
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
