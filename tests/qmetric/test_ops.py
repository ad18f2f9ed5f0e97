import subprocess
import sys

import pytest
import torch
from qmetric import ClusterState, QMetric, frobenius_cosine, q_metric
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

ops = torch.ops.qmetric
X, W, MASK = torch.randn(2, 3, 1, 8), torch.rand(2, 3), torch.rand(2, 3) > 0.3


@pytest.mark.parametrize(
    ("operator", "arguments"),
    [
        (ops.frobenius_cosine.default, (X, MASK)),
        (ops.frobenius_cosine_out.default, (X, None, torch.empty(2, 3, 3))),
        (ops.q_metric.default, (X, W, MASK, 0.5, 0.7)),
        (ops.q_metric_with_similarity.default, (X, W, None, 0.5, 0.7)),
        (ops.q_metric_out.default, (X, W, MASK, 0.5, 0.7, *(torch.empty(2) for _ in range(3)), torch.empty(2, 3, 3))),
    ],
)
def test_operator_contract(operator: object, arguments: tuple[object, ...]) -> None:
    torch.library.opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))


def test_incremental_operator_contract() -> None:
    state = ClusterState(2, 3, 1, 8, dtype=torch.float32)
    buffers = (state.embeddings, state.confidences, state.mask, state.similarity)
    outputs = tuple(torch.empty(2) for _ in range(3))
    torch.library.opcheck(
        ops.extend.default,
        (*buffers, X[:, 0].contiguous(), W[:, 0].contiguous(), None, 0, 0.5, 0.7, *outputs),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_compiles_whole() -> None:
    def exits(embeddings: Tensor, confidences: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        result = q_metric(embeddings * 2, confidences, mask, return_similarity=True)
        return result.Q + 1, frobenius_cosine(embeddings) + result.S

    compiled = torch.compile(exits, backend="aot_eager", fullgraph=True)
    for got, wanted in zip(compiled(X, W, MASK), exits(X, W, MASK), strict=True):
        torch.testing.assert_close(got, wanted)


def test_compiles_with_outputs() -> None:
    def into(embeddings: Tensor, confidences: Tensor, q: Tensor, c: Tensor, p: Tensor) -> Tensor:
        return q_metric(embeddings, confidences, out=QMetric(q, c, p)).Q * 2

    outputs = [torch.full((2,), torch.nan) for _ in range(3)]
    doubled = torch.compile(into, backend="aot_eager", fullgraph=True)(X, W, *outputs)
    torch.testing.assert_close(doubled, outputs[0] * 2)
    torch.testing.assert_close(outputs[0], q_metric(X, W).Q)


def test_traces_on_fake_tensors() -> None:
    with FakeTensorMode():
        result = q_metric(torch.empty(5, 9, 1, 7, device="cuda"), torch.empty(5, 9, device="cuda"))
        assert result.Q.shape == (5,)
        assert result.Q.device.type == "cuda"
        with pytest.raises(ValueError, match="confidences must be"):
            q_metric(torch.empty(5, 9, 1, 7), torch.empty(5, 8))


def test_a_cpu_process_does_not_load_triton() -> None:
    code = (
        "import sys, torch, qmetric; qmetric.q_metric(torch.ones(1, 2, 1, 4), torch.ones(1, 2)); "
        "assert not any(name.startswith('qmetric.triton_kernels') for name in sys.modules); "
        "print('triton.language' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
