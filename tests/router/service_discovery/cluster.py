"""A Kubernetes API server that knows nothing but pods.

A fake, since there is no cluster here: it speaks the list and watch protocol of the API's documentation over HTTP
(resource versions, JSON lines, bookmarks, 410 Gone, selectors) to the real client library, and fails on demand. Pods
are workers on this machine: each has a loopback address, and all listen on one port.
"""

import asyncio
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self
from unittest import mock
from urllib.parse import parse_qsl, urlsplit

import orjson

from router.cli.parser import parse
from router.dispatch.retries import RetrySettings
from router.service_discovery.settings import DiscoverySettings
from tests.router.support.fakes import Call, FakePair, FakeServer, FakeWorker, chunk, head, whole
from tests.router.support.serving import Serving, serving

JSON = (("content-type", "application/json"),)
TOKEN = "kubernetes-token"

# Labels of both sides, the flags that find them, and an annotation.
PREFILL, DECODE = {"app": "sglang", "side": "prefill"}, {"app": "sglang", "side": "decode"}
PAIRS = (
    "--pd-disaggregation",
    *("--prefill-selector", "app=sglang", "side=prefill"),
    *("--decode-selector", "app=sglang", "side=decode"),
)
PORT = {"sglang.ai/bootstrap-port": "8998"}

Pod = dict[str, Any]


def pod(
    name: str,
    ip: str | None = "127.0.0.1",
    *,
    labels: dict[str, str] | None = None,
    annotations: dict[str, str] | None = None,
    ready: bool = True,
    phase: str = "Running",
    leaving: bool = False,
    uid: str | None = None,
    namespace: str = "default",
) -> Pod:
    """A pod as the API tells it, as far as it matters here."""
    metadata: dict[str, Any] = {"name": name, "namespace": namespace, "uid": uid or f"uid-of-{name}"}
    metadata["labels"] = labels or {"app": "sglang"}
    if annotations is not None:
        metadata["annotations"] = annotations
    if leaving:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    conditions = [{"type": "Initialized", "status": "True"}, {"type": "Ready", "status": "True" if ready else "False"}]
    status = {"phase": phase, "conditions": conditions, **({"podIP": ip} if ip else {})}
    return {"metadata": metadata, "status": status}


@dataclass(frozen=True)
class Step:
    """What happened at one version: a pod before and after, None where it was not there."""

    version: int
    before: Pod | None
    after: Pod | None


@dataclass(eq=False)
class Watching:
    """A watch that is open, and what else is to be sent over it; empty bytes end it."""

    call: Call
    queue: "asyncio.Queue[bytes]"


class FakeCluster:
    """The pods, their history, and the ways in which the API fails.

    Attributes:
        lists: The queries of lists so far, with their path under `path`.
        watches: And those of watches.
        refusal: Status and message of the answer to every request; None when they are answered.
        silent: Watches get no events, and do not end.
        gone_in_stream: 410 comes as a watch's first event, as it does from a real server, or else as its status.
    """

    def __init__(self) -> None:
        self.server = FakeServer(self._handle)
        self.lists: list[dict[str, str]] = []
        self.watches: list[dict[str, str]] = []
        self.refusal: tuple[int, str] | None = None
        self.silent = False
        self.gone_in_stream = True
        self._pods: dict[str, Pod] = {}
        self._version = 100
        self._oldest = 0
        self._steps: list[Step] = []
        self._open: list[Watching] = []
        self._news = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self.server.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.__aexit__()

    # What happens to pods

    def put(self, *pods: Pod) -> None:
        """Pods are there, new or changed."""
        for each in pods:
            self._step(each["metadata"]["name"], each)

    def delete(self, *names: str) -> None:
        """Pods are there no longer."""
        for name in names:
            self._step(name, None)

    def _step(self, name: str, after: Pod | None) -> None:
        self._version += 1
        before = self._pods.pop(name, None)
        if after is not None:
            after = self._pods[name] = {**after, "metadata": {**after["metadata"], "resourceVersion": self.version}}
        self._steps.append(Step(self._version, before, after))
        self._tell()

    # What happens to watches

    @property
    def version(self) -> str:
        return str(self._version)

    @property
    def watched(self) -> int:
        """Watches that are open."""
        return len(self._open)

    def move_on(self) -> None:
        """Other objects than pods change: versions are counted over all."""
        self._version += 1

    def compact(self) -> None:
        """Forget all history: a watch from an earlier version is answered with 410."""
        self._oldest, self._steps = self._version, []

    def send(self, raw: bytes) -> None:
        """Send something over every watch, after what is due."""
        for watching in self._open:
            watching.queue.put_nowait(raw)
        self._tell()

    def bookmark(self) -> None:
        """Tell every watch how far it is."""
        self.send(_line("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": self.version}}))

    def end(self) -> None:
        """End every watch in order, as when its time is over."""
        self.send(b"")

    def drop(self) -> None:
        """Cut the connection of every watch."""
        for watching in self._open:
            watching.call.drop()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    # The protocol

    async def _handle(self, call: Call) -> None:
        url = urlsplit(call.path)
        query = {**dict(parse_qsl(url.query)), "path": url.path}
        namespace = re.fullmatch(r"/api/v1/(?:namespaces/([^/]+)/)?pods", url.path)
        assert namespace, url.path
        watching = query.get("watch", "").lower() == "true"
        (self.watches if watching else self.lists).append(query)
        if call.headers.get("authorization") != f"Bearer {TOKEN}":
            await self._refuse(call, 401, "Unauthorized")
        elif self.refusal is not None:
            await self._refuse(call, *self.refusal)
        elif watching:
            await self._watch(call, query, namespace[1])
        else:
            items = [each for each in self._pods.values() if selected(each, query, namespace[1])]
            await call.answer({"kind": "PodList", "metadata": {"resourceVersion": self.version}, "items": items})

    @staticmethod
    async def _refuse(call: Call, status: int, message: str) -> None:
        await call.send(whole(orjson.dumps(_failure(status, message)), status, *JSON))

    async def _watch(self, call: Call, query: dict[str, str], namespace: str | None) -> None:
        version = int(query["resourceVersion"])
        gone = version < self._oldest
        if gone and not self.gone_in_stream:
            await self._refuse(call, 410, "too old resource version")
            return
        await call.send(head(200, *JSON, ("transfer-encoding", "chunked"), ("connection", "close")))
        if gone:
            await call.send(chunk(_line("ERROR", _failure(410, "too old resource version"))) + chunk(b""))
            call.writer.close()
            return
        queue = asyncio.Queue[bytes]()
        self._open.append(watching := Watching(call, queue))
        deadline = asyncio.get_running_loop().time() + float(query["timeoutSeconds"])
        try:
            while True:
                news = self._news
                if not self.silent:
                    for step in [step for step in self._steps if step.version > version]:
                        version = step.version
                        await call.send(b"".join(map(chunk, _event(step, query, namespace))))
                    while not queue.empty():
                        await call.send(chunk(raw := queue.get_nowait()))
                        if not raw:
                            call.writer.close()
                            return
                try:
                    async with asyncio.timeout_at(None if self.silent else deadline):
                        if not await call.waits_for(news):
                            return
                except TimeoutError:
                    queue.put_nowait(b"")
        finally:
            self._open.remove(watching)


def _event(step: Step, query: dict[str, str], namespace: str | None) -> Iterator[bytes]:
    """What a watch tells of a step: to one with a selector a pod that no longer matches is deleted."""
    before = step.before is not None and selected(step.before, query, namespace)
    after = step.after is not None and selected(step.after, query, namespace)
    if after:
        yield _line("MODIFIED" if before else "ADDED", step.after)
    elif before:
        last = step.after or step.before
        assert last is not None
        yield _line("DELETED", {**last, "metadata": {**last["metadata"], "resourceVersion": str(step.version)}})


def _line(kind: str, told: Any) -> bytes:
    return orjson.dumps({"type": kind, "object": told}) + b"\n"


def _failure(status: int, message: str) -> dict[str, Any]:
    return {"kind": "Status", "status": "Failure", "message": message, "reason": "Whatever", "code": status}


def selected(told: Pod, query: dict[str, str], namespace: str | None) -> bool:
    """Whether a query means a pod."""
    metadata = told["metadata"]
    wanted = re.findall(r"([^,= ]+)(?:=([^,]*)| in \(([^)]*)\))", query.get("labelSelector", ""))
    return namespace in (None, metadata["namespace"]) and all(
        metadata["labels"].get(key) in (several.split(",") if several else [one]) for key, one, several in wanted
    )


# A router that watches it


@contextmanager
def kubeconfig(url: str) -> Iterator[None]:
    """A kubeconfig file for an API server, in the environment; no cluster that these tests may run in is seen."""
    named = {"cluster": {"server": url}, "user": {"token": TOKEN}, "context": {"cluster": "c", "user": "u"}}
    lists = {f"{kind}s": [{"name": kind[0], kind: value}] for kind, value in named.items()}
    lists["contexts"][0]["name"] = "here"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config"
        path.write_bytes(orjson.dumps({"current-context": "here", **lists}))  # YAML too
        with mock.patch.dict(os.environ, {"KUBECONFIG": str(path), "NO_PROXY": "127.0.0.1"}):
            os.environ.pop("KUBERNETES_SERVICE_HOST", None)
            yield


def discovery(*flags: str, **patience: Any) -> DiscoverySettings:
    """What a command line says, with less patience than there is by default."""
    found = parse(["--service-discovery", *flags]).discovery
    assert found is not None
    patience.setdefault("backoff", RetrySettings(initial_backoff_ms=5, max_backoff_ms=50, backoff_multiplier=2))
    return replace(found, **patience)


@asynccontextmanager
async def discovering(cluster: FakeCluster, settings: DiscoverySettings, *pairs: FakePair) -> AsyncIterator[Serving]:
    """A router that watches a cluster, and has pairs from flags."""
    with kubeconfig(cluster.server.url):
        async with serving(*pairs, discovery=settings) as client:
            yield client


@asynccontextmanager
async def on_one_port(*pairs: FakePair) -> AsyncIterator[int]:
    """Run the workers of pairs on 127.0.0.1, 127.0.0.2 and so on, all on the port that is told."""
    workers: list[FakeWorker] = [worker for pair in pairs for worker in (pair.prefill, pair.decode)]
    port = 0
    async with AsyncExitStack() as stack:
        for number, worker in enumerate(workers, start=1):
            worker.server.host, worker.server.port = f"127.0.0.{number}", port
            await stack.enter_async_context(worker.server)
            port = worker.server.port
        yield port
