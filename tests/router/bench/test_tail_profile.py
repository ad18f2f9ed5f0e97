"""Forward passes found in a profiler's trace. The trace is made up; a real one needs a GPU."""

from typing import Any

from router.bench.speculative_prefill.gpu_trace import kind_of, passes
from router.bench.speculative_prefill.tail_profile import table

ATTENTION = "void flashinfer::BatchPrefillWithPagedKVCacheKernel<...>(params)"
MERGE = "void flashinfer::PersistentVariableLengthMergeStatesKernel<...>(params)"
GEMM = "nvjet_tst_128x64_64x8_1x2_h_bz_TNT"


def kernel(name: str, at: float, took: float, call: int) -> dict[str, Any]:
    """A kernel as torch's profiler writes it; times in microseconds."""
    return {"ph": "X", "cat": "kernel", "name": name, "ts": at, "dur": took, "args": {"correlation": call}}


def launch(name: str, at: float, call: int) -> dict[str, Any]:
    """The call that started it."""
    return {"ph": "X", "cat": "cuda_runtime", "name": name, "ts": at, "dur": 3, "args": {"correlation": call}}


TRACE = [
    {"ph": "M", "name": "process_name"},
    launch("cudaGraphLaunch", 0, 1),
    kernel(GEMM, 10, 40, 1),
    kernel(ATTENTION, 60, 20, 1),
    launch("cudaLaunchKernel", 9_000, 2),
    kernel(ATTENTION, 9_010, 100, 2),
    kernel(MERGE, 9_120, 5, 2),
    kernel(GEMM, 9_130, 40, 2),
]


def test_a_pause_ends_a_pass() -> None:
    first, second = passes(TRACE)
    assert (first.span, first.busy, first.kernels, first.launches, first.graphs) == (70, 60, 2, 0, 1)
    assert (second.span, second.busy, second.kernels, second.launches, second.graphs) == (160, 145, 3, 1, 0)
    assert first.kinds == {"matrix products": 40, "attention": 20}
    assert second.kinds == {"attention": 100, "merging of attention": 5, "matrix products": 40}
    assert second.longest[0] == (ATTENTION, 100, 1)


def test_order_of_events_does_not_matter() -> None:
    assert passes(reversed(TRACE)) == passes(TRACE)
    assert passes([]) == []


def test_kinds() -> None:
    assert kind_of("Memcpy DtoD (Device -> Device)") == "copies"
    assert kind_of("void at::native::vectorized_elementwise_kernel<4, add>") == "the rest"


def test_the_table_names_both() -> None:
    short, behind = passes(TRACE)
    text = table(
        {"short": [0.02, 0.03, 0.02], "behind": [0.03] * 3}, {"short": [short], "behind": [behind]}, 64, 12_000
    )
    assert "64 tokens behind 11936" in text
    assert "1.50" in text
    assert ATTENTION in text
