"""One request on a pair: both servers get it at once, decode's answer is the client's.

Prefill waits for decode's handshake before it transfers, so neither leg may wait for the other to be
answered. Whatever ends the exchange early - the client leaves, a leg fails - ends it on both servers.
"""

import asyncio
import secrets
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import orjson

from router.errors import BadRequest, RouterError, UpstreamFailed
from router.http.client import Response
from router.metrics import Metrics
from router.policies import Policy
from router.workers import Pair, Registry, Worker

# Fields only a router may set: a client that could name a bootstrap host could point the servers
# at any address, or start a prefill that nobody fetches.
RESERVED = ("bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key")
MAX_ROOM = 2**63 - 1
ABORT_TIMEOUT = 5.0  # seconds
REFUSAL_WAIT = 1.0  # seconds that decode gets to refuse what prefill refused, with its own words


class Dispatcher:
    """Sends requests to pairs."""

    def __init__(self, registry: Registry, prefill_policy: Policy, decode_policy: Policy) -> None:
        self.registry = registry
        self._prefill_policy = prefill_policy
        self._decode_policy = decode_policy
        self.metrics = Metrics(registry)
        self._aborts: set[asyncio.Task[None]] = set()

    def choose(self, model: str) -> Pair:
        """A pair of healthy workers of the model; raises `NotFound` or `NoWorker`."""
        return Pair(
            self._prefill_policy.choose(self.registry.healthy(model, "prefill")),
            self._decode_policy.choose(self.registry.healthy(model, "decode")),
        )

    @asynccontextmanager
    async def exchange(self, path: str, body: dict[str, Any], pair: Pair) -> AsyncIterator["Exchange"]:
        """Send `body` to both servers of a pair; the block ends the exchange on both.

        Raises `RouterError` when a leg fails before decode's answer begins.
        """
        body = prepare_body(body, pair)
        try:
            raw = orjson.dumps(body)
        except TypeError:  # orjson reads deeper nesting than it writes
            raise BadRequest("the request is nested too deeply; send a flatter one.") from None
        exchange = Exchange(pair, raw, path)
        try:
            await exchange.start()
            yield exchange
        finally:
            # First what must happen even when the wait in `close` is cancelled.
            exchange.unload(pair.prefill)
            exchange.unload(pair.decode)
            if not exchange.finished:
                self._abort(pair, body["rid"])
            await exchange.close()

    def _abort(self, pair: Pair, rid: Any) -> None:
        """Tell both servers, without waiting: SGLang notices a closed connection only after seconds."""
        for each in rid if isinstance(rid, list) else [rid]:
            self.tell(pair, "/abort_request", {"rid": each})

    def tell(self, pair: Pair, path: str, body: dict[str, Any]) -> None:
        """Post to both servers without waiting for what they say, or whether they are there."""
        raw = orjson.dumps(body)
        for worker in (pair.prefill, pair.decode):
            self._spawn(_tell(worker, path, raw))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    async def close(self) -> None:
        """Let aborts that are under way finish."""
        if self._aborts:
            await asyncio.wait(self._aborts, timeout=ABORT_TIMEOUT)


class _PrefillRefused(UpstreamFailed):
    """The prefill server answered with an error."""


class _PrefillGaveUp(_PrefillRefused):
    """It told so after its answer had begun with 200."""


class Exchange:
    """The two legs of one request."""

    def __init__(self, pair: Pair, raw: bytes, path: str) -> None:
        self.pair = pair
        self._legs = [
            asyncio.create_task(worker.origin.request("POST", path, raw)) for worker in (pair.prefill, pair.decode)
        ]
        self._prefill = asyncio.create_task(self._read_prefill())
        self._loaded = {pair.prefill, pair.decode}
        for worker in self._loaded:
            worker.load += 1
        self._prefill.add_done_callback(lambda _: self.unload(pair.prefill))
        self.decode: Response
        self.first: float | None = None  # when the body began, on the monotonic clock
        self.finished = False

    def unload(self, worker: Worker) -> None:
        """This exchange is no load of a worker any more; harmless to call twice."""
        if worker in self._loaded:
            self._loaded.remove(worker)
            worker.load -= 1

    async def start(self) -> None:
        """Return once decode's answer has begun.

        A prefill leg that fails first ends the exchange: decode would wait for KV that never comes.
        """
        decode = self._legs[1]
        await asyncio.wait({self._prefill, decode}, return_when=asyncio.FIRST_COMPLETED)
        if not decode.done() and isinstance(self._prefill.exception(), _PrefillRefused):
            await asyncio.wait({decode}, timeout=REFUSAL_WAIT)
        if not decode.done():
            self._prefill.result()
        self.decode = await decode
        if not isinstance(self._problem(), _PrefillGaveUp):  # decode may tell the same in its stream
            self._check_prefill()

    async def _read_prefill(self) -> bytes:
        response = await self._legs[0]
        answer = await response.read()
        if response.status >= 400:
            raise _PrefillRefused(
                f"the prefill server refused the request with {response.status}: {error_message(answer)}"
            )
        cause = abort_cause(answer)
        if cause is not None:
            raise _PrefillGaveUp(f"the prefill server gave the request up: {cause}")
        return answer

    def _problem(self) -> BaseException | None:
        """What prefill failed with; None while it runs, and when it has answered."""
        return self._prefill.exception() if self._prefill.done() else None

    def _check_prefill(self) -> None:
        """Raise what prefill failed with, unless decode refused too: then decode's words are the answer."""
        if self._prefill.done() and self.decode.status < 400:
            self._prefill.result()

    async def body(self) -> AsyncIterator[bytes]:
        """Decode's body as it arrives; a prefill leg that breaks meanwhile is raised as its error."""
        chunks = self._timed(self.decode.chunks())
        given_up = self.decode.status >= 400
        while not given_up and (not self._prefill.done() or self._problem() is not None):
            step = asyncio.ensure_future(anext(chunks, None))
            try:
                await asyncio.wait({step, self._prefill}, return_when=asyncio.FIRST_COMPLETED)
                if not step.done() and isinstance(self._problem(), _PrefillRefused):
                    await asyncio.wait({step}, timeout=REFUSAL_WAIT)
                if not step.done():
                    self._check_prefill()
                chunk = await step
            finally:
                step.cancel()
                await asyncio.gather(step, return_exceptions=True)
            if chunk is None:
                self._check_prefill()
                break
            given_up = abort_cause(chunk) is not None
            yield chunk
        async for chunk in chunks:
            yield chunk
        # When decode alone gives up, prefill waits for it: that is not a finished exchange.
        self.finished = not given_up

    async def _timed(self, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self.first = self.first or time.monotonic()
            yield chunk

    async def prefill_answer(self) -> bytes:
        """The prefill server's whole answer; raises `RouterError` when there is none."""
        return await self._prefill

    async def close(self) -> None:
        """Drop what is still open on both legs."""
        try:
            if self.finished:
                # Prefill's own answer ends with its transfer, hardly later than decode's first token.
                await asyncio.wait({self._prefill}, timeout=1.0)
        finally:
            for leg in self._legs:
                if leg.done() and not leg.cancelled() and leg.exception() is None:
                    leg.result().close()
            tasks = (*self._legs, self._prefill)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def prepare_body(body: dict[str, Any], pair: Pair) -> dict[str, Any]:
    """The body both servers get: reserved fields replaced, a fresh room, a request id.

    A batch gets lists, one room and one id for each of its prompts. A client's own `rid` becomes the
    beginning of the one sent: SGLang aborts every request whose id begins with the one to abort, so
    an id that a client chose could end its neighbours' requests.

    Raises:
        BadRequest: `rid` is not text; or `n` > 1, for which SGLang 0.5.17 uses one room for all
            samples and fails.
    """
    sampling = body.get("sampling_params")
    params = [body, *(sampling if isinstance(sampling, list) else [sampling])]
    for n in (each.get("n") for each in params if isinstance(each, dict)):
        if isinstance(n, int) and n > 1:
            raise BadRequest(f"`n` is {n}, but prefill/decode servers give one sample a request; send {n} requests.")
    sent = {key: value for key, value in body.items() if key not in RESERVED}
    size = batch_size(body)
    host, port = pair.prefill.origin.host, pair.prefill.bootstrap_port

    def per_item(make: Callable[[], Any]) -> Any:
        return make() if size is None else [make() for _ in range(size)]

    sent["bootstrap_host"] = per_item(lambda: host)
    sent["bootstrap_port"] = per_item(lambda: port)
    sent["bootstrap_room"] = per_item(fresh_room)
    sent["rid"] = _request_ids(body.get("rid"), size)
    return sent


def _request_ids(given: Any, size: int | None) -> str | list[str]:
    """Ids none of which another one begins with."""
    wanted = given if isinstance(given, list) else [given or ""] * (size or 1)
    if len(wanted) != (size or 1) or not all(isinstance(rid, str) for rid in wanted):
        raise BadRequest("`rid` must be a string, or a list of one string for each prompt.")
    ids = [f"{rid}-{uuid.uuid4().hex}" if rid else uuid.uuid4().hex for rid in wanted]
    return ids[0] if size is None else ids


def fresh_room() -> int:
    """A room number no other request has, whoever seeded `random`; SGLang adds small offsets to it for `n` > 1."""
    return secrets.randbits(62)


def batch_size(body: dict[str, Any]) -> int | None:
    """How many prompts a batched request has; None when it is a single one."""
    for key in ("text", "prompt", "input_ids"):
        value = body.get(key)
        if isinstance(value, list) and value and isinstance(value[0], str | list):
            return len(value)
    return None


async def _tell(worker: Worker, path: str, raw: bytes) -> None:
    try:
        async with (
            asyncio.timeout(ABORT_TIMEOUT),
            await worker.origin.request("POST", path, raw) as response,
        ):
            await response.read()
    except (RouterError, TimeoutError):
        return  # a worker that is gone has nothing left to end


def abort_cause(answer: bytes) -> str | None:
    """Why a worker gave a request up after its answer had begun with 200; None when it did not.

    SGLang tells a stream's refusal, and an abort, only in the finish reason.
    """
    if b'"abort"' not in answer:
        return None
    for line in answer.splitlines():
        try:
            told = orjson.loads(line.removeprefix(b"data: "))
            for each in told if isinstance(told, list) else [told]:
                reason = each["meta_info"]["finish_reason"]
                if reason["type"] == "abort":
                    return str(reason.get("message") or "no cause was given")
        except (orjson.JSONDecodeError, KeyError, TypeError):
            continue
    return None


def error_message(raw: bytes) -> str:
    """A worker's own words about an error."""
    try:
        told = orjson.loads(raw)
        error = told.get("error", told)
        return error if isinstance(error, str) else str(error.get("message", error))
    except (orjson.JSONDecodeError, AttributeError):
        return raw[:200].decode(errors="replace")
