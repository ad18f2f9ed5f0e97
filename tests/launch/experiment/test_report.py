"""Tables and pictures of a summary, drawn again from the log alone."""

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from launch.experiment import report
from launch.experiment.report import write_report
from launch.experiment.run_line import RunLine
from launch.experiment.run_log import RunLog
from launch.experiment.session import ExperimentSession
from launch.experiment.table import summary_sentences, table_of
from tests.launch.experiment.support import ARMS, FakeRouter, write_config
from tests.launch.experiment.test_experiment import options, run, timeless
from tests.router.support.aio import aio

IDENTITY = {"hash": "x", "config": {"arms": ARMS}, "benchmarks": {"sums": []}, "samples": {"1": None}, "seed": 0}


async def ran(folder: Path) -> Path:
    config = write_config(folder)
    async with FakeRouter(config) as router:
        await run(config, folder / "out", router, "--num-samples", "5")
    return folder / "out"


@aio
async def test_the_same_log_gives_the_same_summary(tmp_path: Path) -> None:
    out = await ran(tmp_path)
    before = (out / "summary.json").read_bytes()
    write_report(out, Console(file=io.StringIO()), pictures=False)
    assert (out / "summary.json").read_bytes() == before


@pytest.mark.servers  # it imports matplotlib, and draws for seconds
@aio
async def test_pictures_are_drawn_as_png_and_svg(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    out = await ran(tmp_path)
    write_report(out, Console(file=io.StringIO()), pictures=True)
    kinds = ("latency", "1-composition", "1-accuracy")
    names = {f"sums-{kind}.{suffix}" for kind in kinds for suffix in ("png", "svg")}
    assert {path.name for path in (out / "pictures").iterdir()} == names
    assert (out / "pictures" / "sums-latency.png").read_bytes().startswith(b"\x89PNG")
    svg = (out / "pictures" / "sums-latency.svg").read_bytes()
    write_report(out, Console(file=io.StringIO()), pictures=True)
    assert (out / "pictures" / "sums-latency.svg").read_bytes() == svg


def test_without_matplotlib_the_rest_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "find_spec", lambda _: None)
    with RunLog(tmp_path, IDENTITY) as log:
        log.append(RunLine(benchmark="sums", concurrency=1, question="q", arm="tree", error="it is away"))
    told = io.StringIO()
    write_report(tmp_path, Console(file=told), pictures=True)
    assert "there are no runs yet" in told.getvalue()
    assert orjson.loads((tmp_path / "summary.json").read_bytes())["cells"] == []


@aio
async def test_bounds_shares_and_composition_of_the_fake_runs(tmp_path: Path) -> None:
    """The fake's runs have no queue: 10 ms to the first token is all that sets them apart from their bounds."""
    out = await ran(tmp_path)
    (cell,) = orjson.loads((out / "summary.json").read_bytes())["cells"]
    assert cell["ms_per_token"] == pytest.approx({"s": 1.0, "m": 2.0, "l": 4.0}, abs=1e-3)
    for arm in cell["arms"].values():
        parts = arm["critical_path_s"]
        ran_for = sum(parts[part] for part in ("prefill", "decode"))
        # Three agents follow each other, each 10 ms for its first token in place of one token's time.
        assert parts["prefill"] == pytest.approx(0.03, abs=1e-6)
        assert ran_for >= arm["bound_s"] - 1e-6 or arm["arm"] == "exit"
    tree, exit_arm = cell["arms"]["tree"], cell["arms"]["exit"]
    assert exit_arm["bound_s"] < tree["bound_s"] <= cell["arms"]["dense"]["bound_s"]
    assert exit_arm["tokens"]["aborted"] > 0
    assert set(exit_arm["exits"]) == {"c1", "c2"}
    assert tree["calls"] == pytest.approx({"s": 2 / 9, "m": 4 / 9, "l": 3 / 9})
    reduction = cell["reduction"]
    assert reduction["total"] == pytest.approx(sum(reduction[name] for name in ("tree", "splice", "exit")))
    assert {(pair["arm"], pair["against"]) for pair in cell["pairs"]} >= {("exit", "tree"), ("tree", "dense")}


@aio
async def test_what_must_be_known_of_a_table_is_said(tmp_path: Path) -> None:
    out = await ran(tmp_path)
    (cell,) = orjson.loads((out / "summary.json").read_bytes())["cells"]
    assert [row.__class__ for row in table_of(cell).rows]
    cell["arms"]["exit"].update(failed=2, lengths_missed=3)
    told = " ".join(summary_sentences(cell))
    assert "exit 2" in told
    assert "3 answers were not as long" in told


@aio
async def test_a_session_with_nothing_left_asks_nothing(tmp_path: Path) -> None:
    config = write_config(tmp_path)
    async with FakeRouter(config) as router:
        first, _ = await run(config, tmp_path / "out", router, "--num-samples", "2")
        asked = len(router.runs)
        told: Any = io.StringIO()
        await ExperimentSession(
            options(config, tmp_path / "out", router, "--num-samples", "2"), Console(file=told)
        ).run()
        assert len(router.runs) == asked
    assert timeless(orjson.loads((tmp_path / "out" / "summary.json").read_bytes())) == timeless(first)
