"""How attempts of a client's request on pairs are chosen: for one sample of each prompt, or for several."""

from collections.abc import Collection

from router.dispatch.dispatcher import Dispatcher
from router.forwarding.forwarder import ChooseAttempt, ForwardingAttempt, RoutedRequest
from router.forwarding.pair_attempt import PairAttempt
from router.load_balancing import RoutingContext
from router.request_checks.sample_count import sample_count
from router.samples.sampled_attempt import SampledAttempt
from router.workers.worker import Worker


def on_pairs(dispatcher: Dispatcher) -> ChooseAttempt:
    """How attempts on pairs are chosen."""

    def choose(routed: RoutedRequest, context: RoutingContext, avoid: Collection[Worker]) -> ForwardingAttempt:
        samples = sample_count(routed.body.fields, routed.path)
        pair = dispatcher.choose_pair(routed.model, context, avoid, routed.places)
        return (
            PairAttempt(dispatcher, routed, pair) if samples == 1 else SampledAttempt(dispatcher, routed, pair, samples)
        )

    return choose
