"""One request on a pair: both servers get it at once, decode's answer is the client's.

Prefill waits for decode's handshake before it transfers, so neither leg may wait for the other to be
answered. Whatever ends the exchange early - the client leaves, a leg fails - ends it on both servers.
"""

import asyncio
from collections.abc import Collection, Coroutine, Mapping
from types import TracebackType
from typing import Any

import orjson

from router.attempt import Attempt, let_through
from router.body import Body
from router.entropy import fresh_id, fresh_room
from router.errors import BadRequest, RouterError
from router.exchange import Exchange
from router.metrics import Metrics
from router.policies import CacheAwareSettings, Policy, Prefix
from router.tracing.legs import NO_LEGS, Sender
from router.workers import ROLES, Pair, Registry, Worker

# Fields only a router may set: a client that could name a bootstrap host could point the servers
# at any address, or start a prefill that nobody fetches.
RESERVED = ("bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key")
# Fields that make a server of a pair fail, in SGLang 0.5.17: of the first two, one request ends the process.
HARMFUL = {
    "session_params": "prefill/decode servers have no sessions; send the whole prompt",
    "positional_embed_overrides": "no JSON can say them; send the prompt as text or token ids",
    "disagg_prefill_dp_rank": "the servers find each other by themselves",
}
# Where SGLang takes the prompts from: the first that is given; of other fields it knows nothing. A request that is
# single there must have no lists of ours, which it fails on as if it were itself broken.
PROMPTS = {"/generate": ("text", "input_ids"), "/v1/completions": ("prompt",)}
ABORT_TIMEOUT = 5.0  # seconds


class Dispatcher:
    """Sends requests to pairs.

    Args:
        registry: The workers.
        prefill_policy: Chooses among prefill servers.
        decode_policy: Chooses among decode servers.
        balance: When a worker has so much more to do than others that what it has cached does not count.
    """

    def __init__(
        self,
        registry: Registry,
        prefill_policy: Policy,
        decode_policy: Policy,
        balance: CacheAwareSettings | None = None,
    ) -> None:
        self.registry = registry
        self._balance = balance or CacheAwareSettings()
        self._prefill_policy = prefill_policy
        self._decode_policy = decode_policy
        self.metrics = Metrics(registry)
        self._aborts: set[asyncio.Task[None]] = set()

    def choose(self, model: str, prompt: Prefix | None = None, avoid: Collection[Worker] = ()) -> Pair:
        """A pair of healthy workers of the model, by the prompt if it is known.

        Workers in `avoid` are chosen only where there is no other. Raises `NotFound`, or `NoWorker` when
        a role has no healthy worker, or none whose breaker lets a request through.
        """
        prefill, decode = (let_through(self.registry.healthy(model, role)) for role in ROLES)
        if avoid:
            prefill, decode = ([w for w in group if w not in avoid] or group for group in (prefill, decode))
        return Pair(self._prefill_policy.choose(prefill, prompt), self._decode_policy.choose(decode, prompt))

    def keeps(self, pair: Pair) -> bool:
        """Whether what was begun on a pair should go on there: both workers take requests and are not overloaded."""
        for worker in (pair.prefill, pair.decode):
            if not (worker.usable and worker.breaker.allows()):
                return False
            least = min(each.load for each in self.registry.healthy(str(worker.model), worker.role))
            if self._balance.uneven(worker.load, least):
                return False
        return True

    def exchange(self, path: str, body: Body, pair: Pair, sender: Sender | None = None) -> "Exchanging":
        """Send `body` to both servers of a pair, in the name of a span, for as long as an `async with` block lasts.

        The block's end ends the exchange on both. Its beginning raises `BadRequest` as `own_fields`; `RouterError`
        when a leg fails before decode's answer begins; `NoWorker` when a breaker of the pair is open, and then
        nothing was sent.
        """
        return Exchanging(self, path, body, pair, sender)

    def abort(self, pair: Pair, rid: Any) -> None:
        """Tell both servers, without waiting: SGLang notices a closed connection only after seconds."""
        for each in rid if isinstance(rid, list) else [rid]:
            self.tell(pair, "/abort_request", {"rid": each})

    def tell(self, pair: Pair, path: str, body: dict[str, Any]) -> None:
        """Post to both servers without waiting for what they say, or whether they are there."""
        raw = orjson.dumps(body)
        for worker in (pair.prefill, pair.decode):
            self._spawn(_tell(worker, path, raw))

    def abort_on(self, worker: Worker, rid: str) -> None:
        """Tell one server to end a request, without waiting for what it says."""
        self._spawn(_tell(worker, "/abort_request", orjson.dumps({"rid": rid})))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    async def close(self) -> None:
        """Let aborts that are under way finish."""
        if self._aborts:
            await asyncio.wait(self._aborts, timeout=ABORT_TIMEOUT)


class Exchanging:
    """An exchange as a block; written out, since `asynccontextmanager` costs as much as sending the request."""

    def __init__(self, dispatcher: Dispatcher, path: str, body: Body, pair: Pair, sender: Sender | None) -> None:
        self._dispatcher = dispatcher
        self._path = path
        self._body = body
        self._sender = sender
        self._attempt = Attempt(pair)
        self._pair = pair
        self._rid: Any = None

    async def __aenter__(self) -> Exchange:
        pair, path, attempt = self._pair, self._path, self._attempt
        own = own_fields(self._body.fields, pair, path)
        self._rid = own["rid"]
        raw = self._body.render(own, dropped=RESERVED)
        attempt.begin()
        try:
            spans = NO_LEGS if self._sender is None else self._sender.legs(pair, path)
            attempt.exchange = exchange = Exchange(pair, raw, path, spans)
        except BaseException:
            attempt.give_up()
            raise
        del raw  # it was sent, and may be long
        try:
            await exchange.start()
        except BaseException as error:
            await self._end(error)
            raise
        return exchange

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end(error)

    async def _end(self, error: BaseException | None) -> None:
        exchange = self._attempt.exchange
        try:
            # First what must happen even when the wait in `close` is cancelled.
            exchange.unload(self._pair.prefill)
            exchange.unload(self._pair.decode)
            if not exchange.finished:
                self._dispatcher.abort(self._pair, self._rid)
            await exchange.close()
        except BaseException as later:
            error = later
            raise
        finally:
            self._attempt.settle(error)
            del error  # else its traceback, this frame and the body are a circle


def own_fields(fields: Mapping[str, Any], pair: Pair, path: str) -> dict[str, Any]:
    """What this router adds to a body with these fields for a path: where the servers meet, a fresh room, a request id.

    A batch gets lists, one room and one id for each of its prompts. A client's own `rid` becomes the
    beginning of the one sent: SGLang aborts every request whose id begins with the one to abort, so
    an id that a client chose could end its neighbours' requests.

    Raises:
        BadRequest: `rid` is not text; a field is in `HARMFUL`; `n` is no number, or over 1, for which SGLang 0.5.17
            uses one room for all samples and fails.
    """
    for name in HARMFUL.keys() & fields.keys():
        if fields[name] is not None:
            raise BadRequest(f"`{name}` is not taken here: {HARMFUL[name]}.")
    _check_samples(fields)
    size = batch_size(fields, path)
    host, port = pair.prefill.origin.host, pair.prefill.bootstrap_port
    rid = _request_ids(fields.get("rid"), size)
    if size is None:
        return {"bootstrap_host": host, "bootstrap_port": port, "bootstrap_room": fresh_room(), "rid": rid}
    rooms = [fresh_room() for _ in range(size)]
    return {"bootstrap_host": [host] * size, "bootstrap_port": [port] * size, "bootstrap_room": rooms, "rid": rid}


def prepare_body(fields: Mapping[str, Any], pair: Pair, path: str) -> dict[str, Any]:
    """The body both servers get: reserved fields replaced; raises as `own_fields`."""
    return {key: value for key, value in fields.items() if key not in RESERVED} | own_fields(fields, pair, path)


def _check_samples(fields: Mapping[str, Any]) -> None:
    """Raise `BadRequest` for a request of several samples, or of no number of them."""
    sampling = fields.get("sampling_params")
    for each in (fields, *(sampling if isinstance(sampling, list) else (sampling,))):
        if not isinstance(each, dict) or (n := each.get("n")) is None:
            continue
        try:
            number = float(n)  # as SGLang reads it, which takes "2" and 2.0 for 2
        except (TypeError, ValueError, OverflowError):
            raise BadRequest("`n` must be 1.") from None
        if number > 1:
            raise BadRequest(
                f"`n` is {number:g}, but prefill/decode servers give one sample a request; send {number:g} requests."
            )


def _request_ids(given: Any, size: int | None) -> str | list[str]:
    """Ids none of which another one begins with."""
    if given is None and size is None:
        return fresh_id()
    wanted = given if isinstance(given, list) else [given or ""] * (size or 1)
    if len(wanted) != (size or 1) or not all(isinstance(rid, str) for rid in wanted):
        raise BadRequest("`rid` must be a string, or a list of one string for each prompt.")
    ids = [f"{rid}-{fresh_id()}" if rid else fresh_id() for rid in wanted]
    return ids[0] if size is None else ids


def batch_size(body: Mapping[str, Any], path: str) -> int | None:
    """How many prompts a batched request has; None when it is a single one."""
    for key in PROMPTS.get(path, ()):
        if (given := body.get(key)) is not None:
            return len(given) if isinstance(given, list) and given and isinstance(given[0], str | list) else None
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
