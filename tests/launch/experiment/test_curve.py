"""The curve over the lengths of outputs: several experiments as one."""

import io
from pathlib import Path
from typing import Any

import orjson
import pytest
from rich.console import Console

from launch.errors import ConfigError
from launch.experiment.curve import curve_of
from launch.experiment.report import write_curve


def summary(tokens: int, ours: float, naive: float, **changes: Any) -> dict[str, Any]:
    arms = {
        name: {"latency_s": {"mean": mean, "interval": [mean - 0.1, mean + 0.1]}}
        for name, mean in (("naive-pd", naive), ("data-parallel", naive + 1), ("ours", ours))
    }
    cell = {"benchmark": "b", "concurrency": 1, "gpus": 2, "arms": arms}
    return {"lengths": f"second-layer:{tokens}", "scale": 1.0, "cells": [cell], **changes}


def test_the_best_length_is_where_ours_is_furthest_below_the_best_other_arm() -> None:
    curve = curve_of([summary(256, ours=3.0, naive=4.0), summary(64, ours=1.4, naive=2.0), summary(512, 7.0, 8.0)])
    assert curve["output_tokens"] == [64, 256, 512]
    assert [point["mean"] for point in curve["arms"]["ours"]] == [1.4, 3.0, 7.0]
    assert curve["best"] == {"output_tokens": 64, "against": "naive-pd", "less": pytest.approx(0.3)}


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (summary(64, 1.0, 2.0), "two have 64 tokens"),
        (summary(32, 1.0, 2.0, lengths="chat"), "second-layer:N"),
        (summary(32, 1.0, 2.0, cells=[]), "one cell each"),
        (summary(128, 1.0, 2.0, scale=0.5), "two have 64 tokens"),
    ],
)
def test_what_is_no_curve_is_said(second: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        curve_of([summary(64, 1.0, 2.0), second])


def test_other_arms_are_another_experiment() -> None:
    other = summary(32, 1.0, 2.0)
    del other["cells"][0]["arms"]["naive-pd"]
    with pytest.raises(ConfigError, match="differ in nothing but lengths"):
        curve_of([summary(64, 1.0, 2.0), other])


def test_it_is_written(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder, tokens in zip(folders, (64, 128), strict=True):
        folder.mkdir()
        (folder / "summary.json").write_bytes(orjson.dumps(summary(tokens, 1.0, 2.0)))
    told = io.StringIO()
    write_curve(folders, Console(file=told, width=200), pictures=False)
    assert "50.0% less than naive-pd at 64 tokens" in told.getvalue()
    assert orjson.loads((folders[0] / "curve.json").read_bytes())["output_tokens"] == [64, 128]


@pytest.mark.servers  # it imports matplotlib, and draws for seconds
def test_it_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "summary.json").write_bytes(orjson.dumps(summary(64, 1.0, 2.0)))
    write_curve([tmp_path], Console(file=io.StringIO()), pictures=True)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {"curve.png", "curve.svg"}
