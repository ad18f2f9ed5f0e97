from pathlib import Path

import pytest
import torch
from qmetric.bench import baselines, report
from qmetric.bench.shapes import SWEEP
from qmetric.bench.timing import Timing, input_set_count
from qmetric.bench.tune import PROBLEM_SIZES, candidates

from tests.qmetric import oracle


def test_sweep_has_thirty_shapes_of_a_few_gigabytes() -> None:
    assert len(set(SWEEP)) == 30
    assert max(shape.input_bytes for shape in SWEEP) < 5 << 30


def test_the_baseline_computes_the_same_thing() -> None:
    embeddings, confidences = torch.randn(3, 4, 2, 9), torch.rand(3, 4)
    for got, wanted in zip(
        baselines.float32_matmul(embeddings, confidences), oracle.batch(embeddings, confidences, None), strict=False
    ):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=1e-5)


def test_every_candidate_holds_its_clusters() -> None:
    for shape in PROBLEM_SIZES:
        forms = candidates(shape)
        assert len(forms) == len(set(forms)) > 1
        assert all(shape.answers <= form.width <= form.rows for form in forms)


def test_figures_and_csv(tmp_path: Path) -> None:
    timing = Timing.of([float(value) for value in range(1, 12)])
    assert (timing.median, timing.low, timing.high) == (6, 2, 10)
    assert input_set_count(1) == 128
    assert input_set_count(2 << 30) == 2
    rows = [report.Row(SWEEP[0], "qmetric", "graph", timing)]
    report.write_csv(tmp_path / "bench.csv", rows, 4e12)
    lines = (tmp_path / "bench.csv").read_text().splitlines()
    assert lines[1].startswith("1,3,1,1024,bfloat16,qmetric,graph,6.000,2.000,10.000,0.00")


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_says_that_it_needs_a_gpu(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from qmetric.bench.__main__ import main

    monkeypatch.setattr("sys.argv", ["qmetric.bench"])
    assert main() == 2
    assert "needs a CUDA GPU" in capsys.readouterr().err
