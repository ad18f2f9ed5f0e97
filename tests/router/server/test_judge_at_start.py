"""The judge of early exit is loaded before a router that needs it answers; one that cannot be had ends the start."""

import asyncio
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from router.early_exit import judge
from router.early_exit.judge_process import JudgeProcess
from router.server.app import App
from router.server.components import build_components
from router.server.processes.peers import Peers
from router.server.settings import RouterSettings
from tests.router.support.aio import aio
from tests.router.support.fakes import FakePair
from tests.router.support.serving import serving


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    """A file with one tree that exits by what its answers mean."""
    proposers = [{"name": f"p{i}", "max_tokens": 4} for i in range(3)]
    final = {"name": "final", "reads": ["proposers"], "max_tokens": 4}
    clusters = [{"name": "proposers", "agents": proposers}], [{"name": "end", "agents": [final]}]
    tree = {"name": "exiting", "arm": "exit", "layers": [{"clusters": each} for each in clusters]}
    path = tmp_path / "trees.json"
    path.write_bytes(orjson.dumps({"trees": [tree]}))
    return path


@pytest.mark.servers
def test_it_is_ready_with_the_router(trees: Path) -> None:
    @aio
    async def test() -> None:
        async with serving(FakePair(), trees=trees) as router:
            assert (await router.http.get("/readiness")).json()["judge"] == "ready"

    test()


def test_a_process_that_replaces_one_does_not_wait_for_it(
    trees: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(model: str, device: str, start_timeout: float) -> JudgeProcess:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(judge, "start_judge_process", never)

    @aio
    async def test() -> None:
        peers = Peers(0, [tmp_path / "0"], restarted=True)
        components = build_components(RouterSettings((), (), trees=trees), peers=peers)
        app = App(components)
        await app.start()
        assert components.runs.judge_state == "loading"
        await app.stop()

    test()


@pytest.mark.servers
def test_a_model_that_cannot_be_had_ends_the_start(trees: Path) -> None:
    command = ["--worker-urls", "http://127.0.0.1:1", "--port", "0", "--trees", str(trees)]
    ended = subprocess.run(
        [sys.executable, "-m", "router", *command, "--embedding-model", "builtin:nothing"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 3  # uvicorn's, for a start that failed
    assert "early exit has no judge" in ended.stderr
    assert "name a folder, or builtin:minilm" in ended.stderr
    assert "Traceback" not in ended.stderr
