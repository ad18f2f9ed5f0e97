"""A pair whose agents are watched, and a file with a small tree."""

import json
from pathlib import Path

import pytest

from tests.router.moa.test_tree_runs import Agents, small_tree


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    path = tmp_path / "trees.json"
    path.write_text(json.dumps(small_tree()))
    return path


@pytest.fixture
def agents() -> Agents:
    return Agents()
