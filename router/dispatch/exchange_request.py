"""A request for both servers of a pair, and the bodies that the two get."""

from collections.abc import Callable
from dataclasses import dataclass

from router.dispatch.client_headers import NO_CLIENT_HEADERS, ClientHeaders
from router.dispatch.pair_fields import router_fields
from router.dispatch.prefill_logprobs import wants_prefill_logprobs
from router.dispatch.rank_fields import rank_fields_of_pair
from router.http.body import Body
from router.observability.tracing.leg_tracer import LegTracer
from router.request_checks.refused_fields import RESERVED_FIELDS
from router.workers.worker import Pair

OF_STREAMS = ("stream", "stream_options")  # fields that a request for a whole response must not have


@dataclass(frozen=True, slots=True)
class ExchangeRequest:
    """What an exchange sends to both servers, and whom it notifies.

    Attributes:
        path: The path on the servers.
        body: The body, without the router's fields.
        headers: Headers of the client's request that both servers get.
        tracer: Traces the two legs; None without tracing.
        start_timeout: Seconds until decode's response must have started; None for no limit.
        on_prefilled: Called once prefill has succeeded: then the prompt is in its cache.
        timed: Whether `PairTimes` counts it. A server's first generation does not: it may compile kernels.
    """

    path: str
    body: Body
    headers: ClientHeaders = NO_CLIENT_HEADERS
    tracer: LegTracer | None = None
    start_timeout: float | None = None
    on_prefilled: Callable[[], None] | None = None
    timed: bool = True

    def bodies_for(self, pair: Pair, *, is_checked: bool) -> "PairBodies":
        """The bodies with the router's fields; `is_checked` and errors as of `router_fields`."""
        fields = self.body.fields
        added = router_fields(fields, pair, self.path, is_checked=is_checked)
        for_prefill, for_decode = rank_fields_of_pair(fields, pair)
        prefill = decode = self.body.render(added | for_decode, dropped=RESERVED_FIELDS)
        if fields.get("stream") and wants_prefill_logprobs(self.path, fields):
            # Only a whole response has prefill's log-probabilities, see `prefill_logprobs`.
            whole = {**added, **for_prefill, "stream": False}
            prefill = self.body.render(whole, dropped=(*RESERVED_FIELDS, *OF_STREAMS))
        elif for_prefill != for_decode:
            prefill = self.body.render(added | for_prefill, dropped=RESERVED_FIELDS)
        return PairBodies(prefill, decode, added["rid"])


@dataclass(frozen=True, slots=True)
class PairBodies:
    """The bodies that the two servers get.

    Attributes:
        prefill: Prefill's.
        decode: Decode's, mostly the same one.
        rid: The request's id on both servers, or a list with one for each prompt.
    """

    prefill: bytes
    decode: bytes
    rid: str | list[str]

    @property
    def prompts(self) -> int:
        """The number of prompts."""
        return len(self.rid) if isinstance(self.rid, list) else 1
