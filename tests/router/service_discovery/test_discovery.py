"""Workers that come and go with their pods, through the real client library (the API is a fake; see cluster.py)."""

import asyncio
import logging
import os
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest

from router.dispatch.retries import RetrySettings
from router.parity.peers import load_peer
from router.service_discovery import watcher as pod_watcher
from router.workers.worker import Worker
from tests.router.server.test_metrics import scraped, value
from tests.router.service_discovery.cluster import (
    DECODE,
    PAIRS,
    PORT,
    PREFILL,
    FakeCluster,
    Pod,
    discovering,
    discovery,
    on_one_port,
    pod,
)
from tests.router.support.aio import aio, until, within
from tests.router.support.fakes import Call, FakePair, chat_event
from tests.router.support.serving import Serving

CHAT = {"model": "fake", "messages": [{"role": "user", "content": "hi"}]}

# Pods and workers


def here(client: Serving) -> dict[str, Worker]:
    """Workers that stay, by their host."""
    return {worker.origin.host: worker for worker in client.registry.workers if not worker.health.draining}


async def has(client: Serving, *hosts: str) -> None:
    """Wait until these are the hosts of the workers."""
    await until(lambda: sorted(here(client)) == sorted(hosts), f"workers are {hosts}")


async def usable(client: Serving, *hosts: str) -> None:
    """And all may get requests."""
    await has(client, *hosts)
    await until(lambda: all(worker.health.usable for worker in here(client).values()), "all workers are well")


def pair_of_pods() -> tuple[Pod, Pod]:
    return pod("p", "127.0.0.1", labels=PREFILL, annotations=PORT), pod("d", "127.0.0.2", labels=DECODE)


@aio
async def test_pairs_come_and_go_with_their_pods() -> None:
    pair, other = FakePair(), FakePair()
    other.rooms = pair.rooms
    async with on_one_port(pair, other) as port, FakeCluster() as cluster:
        prefill, decode = pair_of_pods()
        cluster.put(prefill, pod("router", "127.0.0.9", labels={"app": "sglang", "side": "router"}))
        settings = discovery(*PAIRS, "--service-discovery-port", str(port))
        async with discovering(cluster, settings) as client:
            await usable(client, "127.0.0.1")
            assert here(client)["127.0.0.1"].bootstrap_port == 8998
            assert (await client.http.get("/readiness")).status_code == 503
            cluster.put(decode)
            await usable(client, "127.0.0.1", "127.0.0.2")
            assert (await client.post("/v1/chat/completions", CHAT)).status_code == 200
            cluster.put(pod("d2", "127.0.0.4", labels=DECODE))
            await usable(client, "127.0.0.1", "127.0.0.2", "127.0.0.4")
            cluster.delete("d")
            await has(client, "127.0.0.1", "127.0.0.4")
            assert (await client.post("/v1/chat/completions", CHAT)).status_code == 200
            assert (len(pair.decode.requests), len(other.decode.requests)) == (1, 1)
            assert [query["labelSelector"] for query in cluster.lists] == ["app=sglang,side in (decode,prefill)"]
            assert cluster.lists[0]["path"] == "/api/v1/pods"


@aio
async def test_plain_servers_of_one_namespace() -> None:
    async def answer(call: Call) -> None:
        await call.answer({"text": "whole"})

    pair = FakePair()
    pair.decode.info, pair.decode.generate = {"served_model_name": "fake", "version": "0.5.17"}, answer
    async with on_one_port(pair) as port, FakeCluster() as cluster:
        cluster.put(pod("a", "127.0.0.2", namespace="prod"), pod("b", "127.0.0.3", namespace="test"))
        flags = ("--selector", "app=sglang", "--service-discovery-namespace", "prod")
        settings = discovery(*flags, "--service-discovery-port", str(port))
        async with discovering(cluster, settings) as client:
            await usable(client, "127.0.0.2")
            cluster.put(pod("c", "127.0.0.4", namespace="test"))
            assert (await client.post("/v1/chat/completions", CHAT)).json() == {"text": "whole"}
            assert sorted(here(client)) == ["127.0.0.2"]
            assert {query["path"] for query in cluster.lists + cluster.watches} == {"/api/v1/namespaces/prod/pods"}


@pytest.mark.parametrize(
    "worse",
    [
        {"ready": False},
        {"leaving": True},
        {"phase": "Failed"},
        {"ip": None},
        {"labels": {"app": "other"}},
        {"labels": {"app": "sglang", "side": "router"}},
    ],
)
def test_a_pod_that_is_no_worker_any_more_and_is_one_again(worse: dict[str, Any]) -> None:
    @aio
    async def test() -> None:
        async with FakeCluster() as cluster:
            prefill, decode = pair_of_pods()
            cluster.put(prefill, decode)
            async with discovering(cluster, discovery(*PAIRS)) as client:
                await has(client, "127.0.0.1", "127.0.0.2")
                cluster.put(pod("d", **{"ip": "127.0.0.2", "labels": DECODE, **worse}))
                await has(client, "127.0.0.1")
                cluster.put(decode)
                await has(client, "127.0.0.1", "127.0.0.2")
                cluster.put(pod("d", "127.0.0.3", labels=DECODE))
                await has(client, "127.0.0.1", "127.0.0.3")

    test()


class Streaming:
    """A pair whose decode server streams until it is released."""

    def __init__(self) -> None:
        self.pair = FakePair()
        self.release = asyncio.Event()
        self.pair.decode.generate = self._decode

    async def _decode(self, call: Call) -> None:
        self.pair.room(call).set()
        await call.stream(chat_event("one "))
        await self.release.wait()
        await call.event(chat_event("two", "stop"))
        await call.done()

    async def begin(self, client: Serving) -> "asyncio.Task[Any]":
        """A stream that has begun."""
        before = len(self.pair.decode.requests)
        task = asyncio.create_task(client.post("/v1/chat/completions", {**CHAT, "stream": True}))
        await until(lambda: len(self.pair.decode.requests) == before + 1, "it streams")
        return task

    async def end(self, *tasks: "asyncio.Task[Any]") -> None:
        """All streams end, whole."""
        self.release.set()
        for task in tasks:
            assert (await within(3.0, task)).text.endswith("data: [DONE]\n\n")


@aio
async def test_streams_of_a_pod_that_goes_end_and_its_address_is_free_then() -> None:
    streaming = Streaming()
    async with on_one_port(streaming.pair) as port, FakeCluster() as cluster:
        cluster.put(*pair_of_pods())
        settings = discovery(*PAIRS, "--service-discovery-port", str(port))
        async with discovering(cluster, settings) as client:
            await usable(client, "127.0.0.1", "127.0.0.2")
            stream = await streaming.begin(client)
            old = here(client)["127.0.0.2"]
            cluster.put(pod("d", "127.0.0.2", labels=DECODE, leaving=True))
            await until(lambda: old.health.draining, "it gets no new requests")
            cluster.put(pod("e", "127.0.0.2", labels=DECODE))
            assert (await client.post("/v1/chat/completions", CHAT)).status_code == 503
            cluster.delete("d")
            await asyncio.sleep(0.05)
            assert old in client.registry.workers
            await streaming.end(stream)
            await usable(client, "127.0.0.1", "127.0.0.2")
            assert here(client)["127.0.0.2"] is not old
            assert streaming.pair.decode.aborted == []


@aio
async def test_a_pod_that_waits_for_an_address_and_goes() -> None:
    """Nobody is left waiting: neither for a pod that is gone nor when the router stops."""
    async with FakeCluster() as cluster:
        prefill, decode = pair_of_pods()
        cluster.put(prefill, decode)
        async with discovering(cluster, discovery(*PAIRS)) as client:
            await has(client, "127.0.0.1", "127.0.0.2")
            old = here(client)["127.0.0.2"]
            watcher = client.components.workers.watcher
            assert watcher is not None
            pod_workers = watcher._pod_workers
            cluster.put(pod("e", "127.0.0.2", labels=DECODE), pod("f", "127.0.0.1", labels=PREFILL))
            await until(lambda: len(pod_workers._waiting_pods) == 2, "they wait")
            waits = pod_workers._waiting_pods["uid-of-e"]
            cluster.delete("e", "d")
            await has(client, "127.0.0.1")
            await until(lambda: old not in client.registry.workers, "it is dropped")
            await until(waits.cancelled, "nobody waits for it")
            assert len(pod_workers._waiting_pods) == 1


@aio
async def test_a_pod_that_is_unready_for_a_moment_keeps_its_streams_and_gets_requests_again() -> None:
    streaming = Streaming()
    async with on_one_port(streaming.pair) as port, FakeCluster() as cluster:
        prefill, decode = pair_of_pods()
        cluster.put(prefill, decode)
        settings = discovery(*PAIRS, "--service-discovery-port", str(port))
        async with discovering(cluster, settings) as client:
            await usable(client, "127.0.0.1", "127.0.0.2")
            worker, stream = here(client)["127.0.0.2"], await streaming.begin(client)
            for _ in range(2):
                cluster.put(pod("d", "127.0.0.2", labels=DECODE, ready=False))
                await until(lambda: worker.health.draining, "it gets no new requests")
                cluster.put(decode)
                await until(lambda: not worker.health.draining, "it gets requests again")
            second = await streaming.begin(client)
            await streaming.end(stream, second)
            await client.settled()
            await asyncio.sleep(0.1)
            assert worker in client.registry.workers, "nobody waits for its end any more"


# Who added a worker


@aio
async def test_workers_of_an_operator_are_left_alone() -> None:
    async with FakeCluster() as cluster, discovering(cluster, discovery(*PAIRS)) as client:
        added = await client.post("/workers", {"url": "http://127.0.0.2:80", "worker_type": "decode"})
        assert added.status_code == 202
        cluster.put(*pair_of_pods())
        await has(client, "127.0.0.1", "127.0.0.2")
        cluster.delete("d", "p")
        await has(client, "127.0.0.2")
        assert (await client.http.get(added.json()["location"])).status_code == 200
        samples = await scraped(client)
        assert value(samples, "smg_discovery_registrations_total", result="duplicate") == 1
        assert value(samples, "smg_discovery_registrations_total", source="kubernetes", result="success") == 1
        assert value(samples, "smg_discovery_deregistrations_total", reason="pod_deleted") == 1


@aio
async def test_workers_of_flags_are_left_alone() -> None:
    given = FakePair()
    async with FakeCluster() as cluster, discovering(cluster, discovery(*PAIRS), given) as client:
        cluster.put(pod("d", "127.0.0.2", labels=DECODE))
        await has(client, "127.0.0.1", "127.0.0.2")
        cluster.delete("d")
        await has(client, "127.0.0.1")
        cluster.move_on()
        cluster.compact()
        cluster.drop()
        await until(lambda: len(cluster.lists) == 2, "pods are listed anew")
        assert (await client.post("/v1/chat/completions", CHAT)).status_code == 200
        assert [worker.url for worker in client.registry.workers] == [given.prefill.url, given.decode.url]


@aio
async def test_a_worker_that_an_operator_removed_stays_away_until_its_pod_changes() -> None:
    async with FakeCluster() as cluster:
        prefill, decode = pair_of_pods()
        cluster.put(prefill, decode)
        async with discovering(cluster, discovery(*PAIRS)) as client:
            await has(client, "127.0.0.1", "127.0.0.2")
            await client.http.delete(f"/workers/{here(client)['127.0.0.2'].id}")
            await has(client, "127.0.0.1")
            cluster.put(decode, pod("more", "127.0.0.3", labels=DECODE))
            await has(client, "127.0.0.1", "127.0.0.3")
            cluster.move_on()
            cluster.compact()
            cluster.drop()
            await until(lambda: len(cluster.lists) == 2 and cluster.watched == 1, "pods are listed anew")
            assert sorted(here(client)) == ["127.0.0.1", "127.0.0.3"]
            cluster.put(pod("d", "127.0.0.2", labels=DECODE, ready=False), decode)
            await has(client, "127.0.0.1", "127.0.0.2", "127.0.0.3")


@aio
async def test_what_is_counted() -> None:
    async with FakeCluster() as cluster:
        prefill, decode = pair_of_pods()
        cluster.put(prefill, decode)
        async with discovering(cluster, discovery(*PAIRS)) as client:
            await has(client, "127.0.0.1", "127.0.0.2")
            samples = await scraped(client)
            assert value(samples, "smg_discovery_workers_discovered", source="kubernetes") == 2
            assert value(samples, "smg_discovery_sync_duration_seconds_count", source="kubernetes") == 1
            cluster.put(pod("p", "127.0.0.1", labels=PREFILL, ready=False), pod("d", "127.0.0.5", labels=DECODE))
            await has(client, "127.0.0.5")
            await client.http.delete(f"/workers/{here(client)['127.0.0.5'].id}")
            cluster.delete("d")
            cluster.put(pod("last", "127.0.0.6", labels=DECODE))
            await has(client, "127.0.0.6")
            samples = await scraped(client)
            assert value(samples, "smg_discovery_workers_discovered") == 1
            for reason, times in (("pod_not_ready", 1), ("pod_changed", 1), ("pod_deleted", 0)):
                assert value(samples, "smg_discovery_deregistrations_total", reason=reason) == times
            for name, labels in load_peer("sglang-router").metrics.items():
                if name.startswith("smg_discovery_") and labels:
                    assert set(samples[name][0].labels) == set(labels), name


@aio
async def test_a_pod_whose_address_is_none_is_told(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeCluster() as cluster:
        cluster.put(pod("odd", "no/address", labels=DECODE), pod("d", "127.0.0.2", labels=DECODE))
        async with discovering(cluster, discovery(*PAIRS)) as client:
            await has(client, "127.0.0.2")
            assert "the pod default/odd becomes no worker: 'http://no/address:80' is not a worker's" in caplog.text
            assert value(await scraped(client), "smg_discovery_registrations_total", result="failed") == 1


# When the API fails


@pytest.mark.parametrize("in_stream", [True, False])
def test_history_that_is_gone_is_listed_anew(in_stream: bool) -> None:
    @aio
    async def test() -> None:
        async with FakeCluster() as cluster:
            cluster.gone_in_stream = in_stream
            cluster.put(*pair_of_pods())
            async with discovering(cluster, discovery(*PAIRS)) as client:
                await has(client, "127.0.0.1", "127.0.0.2")
                kept = here(client)["127.0.0.1"]
                cluster.silent = True
                cluster.delete("d")
                cluster.put(pod("e", "127.0.0.3", labels=DECODE))
                cluster.compact()
                cluster.silent = False
                cluster.drop()
                await has(client, "127.0.0.1", "127.0.0.3")
                assert here(client)["127.0.0.1"] is kept
                assert len(cluster.lists) == 2
                cluster.put(pod("f", "127.0.0.4", labels=DECODE))
                await has(client, "127.0.0.1", "127.0.0.3", "127.0.0.4")

    test()


def cut(cluster: FakeCluster) -> None:
    """Half an event, and the end of the connection."""
    cluster.send(b'{"type": "ADDED", "object": {"metadata"')
    asyncio.get_running_loop().call_later(0.05, cluster.drop)


def end_within_an_event(cluster: FakeCluster) -> None:
    cluster.send(b'{"type": "DELETED", "obj')
    cluster.end()


@pytest.mark.parametrize(
    "breaks",
    [FakeCluster.drop, cut, end_within_an_event, lambda cluster: cluster.send(b"<html>\n")],
    ids=["dropped", "cut", "ended", "html"],
)
def test_a_watch_that_breaks_goes_on_where_it_was(breaks: Callable[[FakeCluster], None]) -> None:
    @aio
    async def test() -> None:
        async with FakeCluster() as cluster:
            prefill, decode = pair_of_pods()
            cluster.put(prefill)
            async with discovering(cluster, discovery(*PAIRS)) as client:
                await until(lambda: cluster.watched == 1, "it watches")
                cluster.put(decode)
                await has(client, "127.0.0.1", "127.0.0.2")
                at = cluster.version
                breaks(cluster)
                await until(lambda: len(cluster.watches) == 2, "it watches again")
                cluster.put(pod("e", "127.0.0.3", labels=DECODE))
                await has(client, "127.0.0.1", "127.0.0.2", "127.0.0.3")
                assert cluster.watches[1]["resourceVersion"] == at
                assert len(cluster.lists) == 1

    test()


@aio
async def test_only_failures_in_a_row_make_waits_longer() -> None:
    patience = RetrySettings(initial_backoff_ms=1, max_backoff_ms=60_000, backoff_multiplier=1000)
    async with FakeCluster() as cluster, discovering(cluster, discovery(*PAIRS, backoff=patience)) as client:
        for number in range(1, 5):
            await until(lambda: cluster.watched == 1, "it watches")
            cluster.put(pod("d", f"127.0.0.{number}", labels=DECODE))
            await has(client, f"127.0.0.{number}")
            cluster.drop()
            await until(lambda: cluster.watched == 0, "it does not")


@aio
async def test_bookmarks_move_a_watch_on() -> None:
    """A watch that hears of no pod for long goes on where the bookmark was, although older history is gone."""
    async with FakeCluster() as cluster:
        cluster.put(*pair_of_pods())
        async with discovering(cluster, discovery(*PAIRS)) as client:
            await until(lambda: cluster.watched == 1, "it watches")
            cluster.move_on()
            cluster.bookmark()
            watcher = client.components.workers.watcher
            assert watcher is not None
            await until(lambda: watcher._resource_version == cluster.version, "the bookmark is there")
            cluster.compact()
            cluster.end()
            await until(lambda: len(cluster.watches) == 2, "it watches again")
            await until(lambda: cluster.watched == 1, "and is not refused")
            assert cluster.watches[1]["resourceVersion"] == cluster.version
            assert cluster.watches[1]["allowWatchBookmarks"] == "True"
            cluster.put(pod("e", "127.0.0.3", labels=DECODE))
            await has(client, "127.0.0.1", "127.0.0.2", "127.0.0.3")
            assert len(cluster.lists) == 1


@aio
async def test_a_silent_watch_is_renewed(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeCluster() as cluster:
        cluster.put(*pair_of_pods())
        cluster.silent = True
        async with discovering(cluster, discovery(*PAIRS, watch_secs=0.1, timeout_secs=1.0)) as client:
            await until(lambda: len(cluster.watches) >= 2, "it watches again")
            assert "said nothing in time; workers stay as they are" in caplog.text
            assert len(cluster.lists) == 1
            cluster.silent = False
            cluster.put(pod("e", "127.0.0.3", labels=DECODE))
            await has(client, "127.0.0.1", "127.0.0.2", "127.0.0.3")


@aio
async def test_watches_that_end_at_once_are_not_asked_for_without_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pod_watcher, "MIN_WATCH_SECS", 3600.0)
    async with FakeCluster() as cluster:
        cluster.put(*pair_of_pods())
        async with discovering(cluster, discovery(*PAIRS)) as client:
            await has(client, "127.0.0.1", "127.0.0.2")
            for times in range(1, 4):
                await until(lambda times=times: len(cluster.watches) == times, "it watches")  # type: ignore[misc]
                await until(lambda: cluster.watched == 1, "it watches")
                cluster.end()
            await until(lambda: len(cluster.watches) == 4, "it watches")
            assert caplog.text.count("the Kubernetes API ends watches at once; ") == 3


@aio
async def test_an_api_that_is_away_at_the_start(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cluster = FakeCluster()
    async with cluster:
        pass  # from now on it has a port
    async with on_one_port(FakePair()) as port:
        cluster.put(*pair_of_pods())
        async with discovering(cluster, discovery(*PAIRS, "--service-discovery-port", str(port))) as client:
            await until(lambda: "cannot be reached" in caplog.text, "it is told")
            answer = await client.http.get("/readiness")
            assert answer.status_code == 503
            words = f"the Kubernetes API at {cluster.server.url} cannot be reached (Cannot connect to host"
            assert answer.json()["error"]["message"].startswith(words)
            assert words in caplog.text
            assert (await client.http.get("/liveness")).status_code == 200
            async with cluster:
                await usable(client, "127.0.0.1", "127.0.0.2")
                assert (await client.http.get("/readiness")).status_code == 200
                assert (await client.post("/v1/chat/completions", CHAT)).status_code == 200
                await until(lambda: "the pods are listed and watched" in caplog.text, "it is told")
            await until(lambda: caplog.text.count("cannot be reached") > 1, "it is away again")
            assert sorted(here(client)) == ["127.0.0.1", "127.0.0.2"]
            assert (await client.http.get("/readiness")).status_code == 200


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_api_that_refuses(status: int, caplog: pytest.LogCaptureFixture) -> None:
    @aio
    async def test() -> None:
        async with FakeCluster() as cluster:
            cluster.put(*pair_of_pods())
            cluster.refusal = (status, "pods is forbidden")
            async with discovering(cluster, discovery(*PAIRS)) as client:
                words = f"the Kubernetes API at {cluster.server.url} refuses to list pods with {status}: pods is forb"
                await until(lambda: words in caplog.text, "it is told")
                cluster.refusal = None
                await has(client, "127.0.0.1", "127.0.0.2")
                await until(lambda: cluster.watched == 1, "it watches")
                cluster.refusal = (status, "no watch")
                cluster.drop()
                await until(lambda: f"refuses to watch pods with {status}: no watch" in caplog.text, "it is told")
                assert sorted(here(client)) == ["127.0.0.1", "127.0.0.2"]

    test()


@aio
async def test_an_answer_that_makes_no_sense_is_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    async with FakeCluster() as cluster:
        cluster.put(*pair_of_pods())
        async with discovering(cluster, discovery(*PAIRS)) as client:
            await until(lambda: cluster.watched == 1, "it watches")
            cluster.send(b'{"type": "ADDED", "object": {"metadata": 7}}\n')
            await until(lambda: "unexpected error while watching pods" in caplog.text, "it is told")
            cluster.put(pod("e", "127.0.0.3", labels=DECODE))
            await has(client, "127.0.0.1", "127.0.0.2", "127.0.0.3")
            assert len(cluster.lists) == 2


@aio
async def test_credentials_that_fail_later(caplog: pytest.LogCaptureFixture) -> None:
    """They are read anew after a failure: tokens and certificates are renewed while the router runs."""
    async with FakeCluster() as cluster:
        cluster.put(*pair_of_pods())
        async with discovering(cluster, discovery(*PAIRS)) as client:
            await until(lambda: cluster.watched == 1, "it watches")
            with mock.patch.dict(os.environ, {"KUBECONFIG": "/nowhere"}):
                cluster.drop()
                await until(lambda: "there are no credentials for the Kubernetes API" in caplog.text, "it is told")
            cluster.put(pod("e", "127.0.0.3", labels=DECODE))
            await has(client, "127.0.0.1", "127.0.0.2", "127.0.0.3")
