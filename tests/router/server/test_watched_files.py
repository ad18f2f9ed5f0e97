"""Files of trees and workers that change while the router runs (the workers are fakes)."""

import json
import logging
import os
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from router.cli.parser import parse
from router.endpoints.workers_file import WorkersFile, read_workers_file
from router.errors import BadRequest
from router.server import watched_files
from router.server.components import build_components
from router.server.settings import RouterSettings, ServerSettings
from router.server.watched_files import WatchedFile, signature
from router.workers.circuit_breaker import CircuitBreakerSettings
from router.workers.factory import WorkerFactory
from router.workers.health import HealthSettings
from tests.router.moa.test_run_failures import write_tree
from tests.router.moa.test_tree_runs import CHAT, Agents, small_tree
from tests.router.support.aio import aio, until
from tests.router.support.plain import PlainServer
from tests.router.support.serving import Serving, serving

SOON = ServerSettings(file_check_secs=0.005)


def write(path: Path, value: Any) -> None:
    """Replace a file at once, as editors and Kubernetes do."""
    new = path.with_suffix(".new")
    new.write_text(value if isinstance(value, str) else json.dumps(value))
    os.replace(new, path)


def renamed(name: str) -> dict[str, Any]:
    told: dict[str, Any] = small_tree()
    told["trees"][0]["name"] = name
    return told


def listed(*servers: Any, **more: Any) -> dict[str, Any]:
    """What a workers file says of plain servers."""
    return {"workers": [{"url": server.url, **more} for server in servers]}


def urls(router: Serving) -> list[str]:
    return [worker.url for worker in router.registry.workers]


def logged(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


def trees_of(router: Serving) -> list[str]:
    """The names of the trees that are served."""
    return router.components.runs.trees.ready_trees()


def following(router: Serving) -> WorkersFile:
    """What follows the workers file."""
    told = router.components.files._files[0]._settle.__self__  # type: ignore[attr-defined]
    assert isinstance(told, WorkersFile)
    return told


# ---- trees


@aio
async def test_new_trees_are_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    agents, path = Agents(), write_tree(tmp_path)
    async with serving(agents.pair, trees=path, server=SOON) as router:
        await until(lambda: trees_of(router) == ["moa"], "the first tree")
        write(path, renamed("other"))
        await until(lambda: trees_of(router) == ["other"], "the new tree")
        answer = await router.post("/v1/chat/completions", {**CHAT, "model": "other"})
        assert answer.status_code == 200
        assert (await router.post("/v1/chat/completions", {**CHAT, "model": "moa"})).status_code == 404
        assert [model["id"] for model in (await router.http.get("/v1/models")).json()["data"]] == ["fake", "other"]
        assert logged(caplog, f"{path} has changed: new runs are of its trees: other") == 1
        await router.settled()


@pytest.mark.parametrize("wrong", ["{", '{"trees": []}', None])
def test_a_wrong_file_is_refused_and_the_old_trees_stay(
    wrong: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    @aio
    async def test() -> None:
        agents, path = Agents(), write_tree(tmp_path)
        async with serving(agents.pair, trees=path, server=SOON) as router:
            if wrong is None:
                path.unlink()
            else:
                write(path, wrong)
            await until(lambda: logged(caplog, "What was read before stays.") == 1, "it is refused")
            assert logged(caplog, f"the trees file {path}") == 1
            assert trees_of(router) == ["moa"]
            write(path, renamed("right"))
            await until(lambda: trees_of(router) == ["right"], "the next one is taken")
            assert logged(caplog, "What was read before stays.") == 1, "said once"
            await router.settled()

    test()


@aio
async def test_a_file_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "f"
    read: list[str] = []
    path.write_text("a")

    def take_over(text: str) -> str:
        read.append(text)
        return "it is taken over"

    watched = WatchedFile(path, signature(path), Path.read_text, take_over)
    for text in ("ab", "abc", "abcd"):
        path.write_text(text)
        await watched.check()
    assert read == []
    await watched.check()
    await watched.check()
    assert read == ["abcd"]


@aio
async def test_nothing_is_watched_unasked(tmp_path: Path) -> None:
    agents, path = Agents(), write_tree(tmp_path)
    async with serving(agents.pair, trees=path, server=ServerSettings(file_check_secs=0)) as router:
        assert router.components.files._task is None
        await router.settled()
    async with serving(agents.pair, trees=Path("dense")) as router:
        assert router.components.files._task is None
        await router.settled()


@aio
async def test_an_unexpected_error_does_not_end_the_watching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    agents, path = Agents(), write_tree(tmp_path)
    real = watched_files.signature

    def broken(_: Path) -> None:
        monkeypatch.setattr(watched_files, "signature", real)
        raise RuntimeError("no such luck")

    async with serving(agents.pair, trees=path, server=SOON) as router:
        monkeypatch.setattr(watched_files, "signature", broken)
        await until(lambda: logged(caplog, "unexpected error while checking a file") == 1, "it is logged")
        write(path, renamed("other"))
        await until(lambda: trees_of(router) == ["other"], "the new tree")
        await router.settled()


# ---- workers


@aio
async def test_workers_come_change_and_go(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "workers.json"
    async with AsyncExitStack() as stack:
        first, second, flagged = [await stack.enter_async_context(PlainServer()) for _ in range(3)]
        write(path, listed(first))
        router = await stack.enter_async_context(serving(plain=(flagged.url,), workers_file=path, server=SOON))
        assert urls(router) == [flagged.url, first.url]
        write(path, listed(first, second))
        await until(lambda: second.url in urls(router), "it is added")
        write(path, listed(first, second, priority=7))
        await until(lambda: [w.config.priority for w in router.registry.workers] == [50, 7, 7], "they are changed")
        write(path, listed(second, priority=7))
        await until(lambda: urls(router) == [flagged.url, second.url], "it is gone, and who has a flag is left alone")
        assert logged(caplog, "0 workers are added, 0 changed, 1 removed") == 1
        assert [worker.health.draining for worker in router.registry.workers] == [False, False]
        await router.settled()


@aio
async def test_a_worker_that_is_there_again_before_it_is_gone(tmp_path: Path) -> None:
    """Its requests end first; with other settings it then comes anew."""
    path = tmp_path / "workers.json"
    async with PlainServer() as server:
        write(path, listed(server))
        async with serving(workers_file=path, server=SOON) as router:
            (worker,) = router.registry.workers
            worker.load.requests = 1  # as if a request was under way
            write(path, {"workers": []})
            await until(lambda: worker.health.draining, "it is being removed")
            write(path, listed(server, priority=7))
            await until(lambda: bool(following(router)._to_add), "it waits")
            worker.load.requests = 0
            await until(lambda: [w.config.priority for w in router.registry.workers] == [7], "it is there again")
            await router.settled()


@aio
async def test_what_an_operator_removed_stays_away(tmp_path: Path) -> None:
    path = tmp_path / "workers.json"
    async with PlainServer() as first, PlainServer() as second:
        write(path, listed(first))
        async with serving(workers_file=path, server=SOON) as router:
            (worker,) = router.registry.workers
            assert (await router.http.delete(f"/workers/{worker.id}")).status_code == 202
            await until(lambda: not urls(router), "it is gone")
            write(path, listed(first, second))
            await until(lambda: urls(router) == [second.url], "only the new one comes")
            write(path, listed(second))
            await until(lambda: len(following(router)._known) == 1, "it is taken over")
            assert urls(router) == [second.url]
            await router.settled()


FACTORY = WorkerFactory(HealthSettings(), CircuitBreakerSettings(), None)
URL = "http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("workers: 5", "it must have `workers`, a list, and nothing else"),
        ("[]", "it must have `workers`, a list, and nothing else"),
        ("{workers: [], more: 1}", "it must have `workers`, a list, and nothing else"),
        ("workers: [5]", "at workers[0]: a worker is an object"),
        ("workers: [{url: 'ftp://x'}]", "at workers[0]: "),
        (f"workers: [{{url: '{URL}'}}, {{url: '{URL}/', worker_type: decode}}]", f"at workers[1]: {URL} is there"),
        (f"workers: [{{url: '{URL}', wrong: 1}}]", "at workers[0]: `wrong` is not known here"),
        ("workers: [{api_key: 'secret", "is not valid YAML"),
        ("\0", "is not valid YAML"),
    ],
)
def test_a_wrong_workers_file_is_named_in_one_sentence(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "workers.yaml"
    path.write_text(text)
    with pytest.raises(BadRequest) as refused:
        read_workers_file(path, FACTORY)
    told = str(refused.value)
    assert told.startswith(f"the workers file {path} is ")
    assert message in told
    assert "\n" not in told
    assert "secret" not in told, "a key may stand there"


def test_a_wrong_workers_file_ends_the_start(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="cannot be read"):
        build_components(RouterSettings((), (), workers_file=tmp_path / "none"))
    path = tmp_path / "workers.json"
    write(path, {"workers": [{"url": URL}]})
    with pytest.raises(Exception, match="is here as"):
        build_components(RouterSettings((), (), plain=(URL,), workers_file=path))


def test_half_a_pair_may_be_in_the_file(tmp_path: Path) -> None:
    settings = parse(["--pd-disaggregation", "--prefill", URL, "--workers-file", str(tmp_path / "w.yaml")])
    assert settings.workers_file == tmp_path / "w.yaml"


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("w.yaml", "workers:\n  - {url: !key-1234 x}\n", "YAML at line 2"),
        ("w.yaml", "workers:\n  - api_key: *key-1234\n", "YAML at line 2"),
        ("w.yaml", "api_key: key-1234\0", "YAML"),
        ("w.yaml", "[" * 100_000, "YAML"),
        ("w.json", '{"workers": [\n  {"api_key": "key-1234}', "JSON at line 2"),
    ],
)
def test_a_file_that_is_not_valid_is_not_quoted(name: str, text: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(BadRequest) as refused:
        read_workers_file(path, FACTORY)
    assert str(refused.value) == f"the workers file {path} is not valid {what}."
