"""Aborts in the background: a batch is aborted by each of its ids, a few at a time (a fake pair that counts)."""

import asyncio

import pytest

from router.dispatch import background_posts
from router.dispatch.background_posts import POSTS_AT_ONCE
from tests.router.support.aio import aio, until
from tests.router.support.fakes import Call, FakePair, whole
from tests.router.support.raw import connected, post
from tests.router.support.serving import serving


@aio
async def test_a_client_that_leaves_a_batch_of_a_thousand() -> None:
    pair = FakePair()
    at_once = most = 0

    async def gone(call: Call) -> None:
        await call.gone()

    async def count(call: Call) -> None:
        nonlocal at_once, most
        if call.path != "/abort_request":
            await handlers[call.path != "/generate"](call)
            return
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.001)
        at_once -= 1
        await call.send(whole(b""))

    handlers = (gone, pair.decode._handle)
    async with serving(pair) as router:
        pair.decode.server.handler = count
        before = pair.decode.server.accepted
        async with connected(router.port) as client:
            await client.send(post("/generate", {"text": ["x"] * 1000}))
            await until(lambda: len(pair.decode.requests) == 1, "decode was asked")
            tasks = len(asyncio.all_tasks())
        await until(lambda: len(pair.decode.aborted) > 10, "aborts arrive")
        assert router.dispatcher.background.running <= 2 * POSTS_AT_ONCE
        assert len(asyncio.all_tasks()) < tasks + 100
        await until(lambda: len(pair.decode.aborted) == len(pair.prefill.aborted) == 1000, "all were aborted")
        assert sorted(pair.decode.aborted) == sorted(pair.decode.requests[0].json["rid"])
        assert most <= POSTS_AT_ONCE
        assert pair.decode.server.accepted - before <= POSTS_AT_ONCE + 2
        await router.settled()
        assert (router.dispatcher.background.running, router.dispatcher.background.waiting) == (0, 0)


@aio
async def test_aborts_for_a_server_that_hangs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_posts, "MAX_WAITING", 50)
    monkeypatch.setattr(background_posts, "POST_TIMEOUT", 0.05)
    monkeypatch.setattr(background_posts, "MAX_AGE", 0.1)
    pair = FakePair()

    async def hang(call: Call) -> None:
        await call.gone()

    async with serving(pair) as router:
        pair.decode.server.handler = hang
        posts = router.dispatcher.background
        (worker,) = (each for each in router.registry.workers if each.role == "decode")
        for index in range(200):
            posts.abort((worker,), str(index))
        assert posts.waiting <= 50
        await until(lambda: posts.running == 0, "what came too late is given up")
        assert posts.waiting == 0


@aio
async def test_a_batch_without_end_is_refused() -> None:
    async with serving(FakePair()) as router:
        told = await router.post("/generate", {"text": ["x"] * 10_001})
        assert told.status_code == 400
        assert "the batch has 10001 prompts, and 10000 is the most" in told.json()["error"]["message"]
