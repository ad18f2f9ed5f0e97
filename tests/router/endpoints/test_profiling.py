"""`/start_profile` and `/stop_profile` reach all workers, or the one that is named (the workers are fakes)."""

from typing import Any

import pytest

from tests.router.forwarding.test_plain_attempts import BODY, RARELY_PROBED, Plain, Two
from tests.router.support.aio import aio, run
from tests.router.support.fakes import Call, whole
from tests.router.support.serving import serving


async def profiles(call: Call) -> None:
    await call.send(whole(b"Start profiling.\n"))


async def refuses(call: Call) -> None:
    await call.send(whole(b"busy", 400))


@pytest.mark.parametrize("path", ["/start_profile", "/stop_profile"])
def test_all_workers_profile(path: str) -> None:
    async def test() -> None:
        async with Two() as two:
            for server in two.servers:
                server.answer = profiles
            asked: list[tuple[bytes, bytes]] = [(b"", b""), (b"{}", b"")]
            asked += [(b'{"output_dir": "/tmp/x", "num_steps": 3}', b'{"output_dir":"/tmp/x","num_steps":3}')]
            for number, (body, sent) in enumerate(asked):
                answer = await two.router.http.post(path, content=body)
                assert answer.status_code == 200
                told = answer.json()
                assert (told["status"], told["workers_profiled"], told["total_workers"]) == ("success", 2, 2)
                assert [server.to(path)[number].body for server in two.servers] == [sent, sent]

    run(test)


@aio
async def test_one_worker_profiles() -> None:
    async with Two() as two:
        first, second = two.servers
        second.answer = profiles
        answer = await two.router.post("/start_profile", {"url": f"{second.url}/", "with_stack": True})
        assert (answer.status_code, answer.json()["workers_profiled"]) == (200, 1)
        assert second.to("/start_profile")[0].json == {"with_stack": True}
        assert not first.to("/start_profile")
        answer = await two.router.post("/start_profile", {"url": "http://nonexistent:9999"})
        assert (answer.status_code, "there is no worker at http://nonexistent:9999." in answer.text) == (404, True)


@aio
async def test_who_did_not_is_named() -> None:
    async with Two() as two:
        first, second = two.servers
        first.answer, second.answer = profiles, refuses
        answer = await two.router.post("/start_profile", {})
        assert answer.status_code == 206
        error = f"{second.url} answered /start_profile with 400."
        told = answer.json()
        assert (told["status"], told["successful"]) == ("partial_success", [first.url])
        assert told["failed"] == [{"worker": second.url, "error": error}]
        first.answer = refuses
        answer = await two.router.post("/start_profile", {})
        assert (answer.status_code, answer.json()["workers_profiled"]) == (206, 0)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{not json", 400),
        (b"[]", 400),
        (b'{"url": 7}', 400),
        (b'{"url": "ftp://x"}', 400),
        (b"{" + b" " * 70_000, 413),
    ],
)
def test_wrong_bodies(body: bytes, status: int) -> None:
    async def test() -> None:
        async with Plain() as server, serving(plain=(server.url,), health=RARELY_PROBED) as router:
            assert (await router.http.post("/start_profile", content=body)).status_code == status
            assert not server.to("/start_profile")

    run(test)


@aio
async def test_without_workers_there_is_nothing_to_profile() -> None:
    async with serving(health=RARELY_PROBED) as router:
        answer = await router.http.post("/stop_profile")
        assert (answer.status_code, answer.json()["error"]["message"]) == (404, "there are no workers.")
        mesh: Any = await router.http.get("/ha/status")
        assert (mesh.status_code, mesh.json()["error"]["message"].partition(":")[0]) == (503, "the mesh is not enabled")
        assert (await router.http.post("/v1/chat/completions", json=BODY)).status_code == 503
