"""Makes the attempts of a client's request on pairs: for one sample of each prompt, or for several."""

from collections.abc import Collection

from router.dispatch.dispatcher import Dispatcher
from router.forwarding.forwarder import AttemptMaker, ForwardingAttempt, RoutedRequest
from router.forwarding.pair_attempt import PairAttempt
from router.load_balancing import RoutingContext
from router.request_checks.sample_count import sample_count
from router.samples.sampled_attempt import SampledAttempt
from router.workers.worker import Worker


class PairAttemptMaker(AttemptMaker):
    """Makes attempts on pairs."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    async def wait_for_places(self, routed: RoutedRequest) -> None:
        """As of `AttemptMaker`; returns at once where there is no limit."""
        places = self._dispatcher.selector.places
        if places.enabled:
            await places.wait(routed.model, routed.places)

    def make(self, routed: RoutedRequest, context: RoutingContext, avoid: Collection[Worker]) -> ForwardingAttempt:
        """As of `AttemptMaker`."""
        samples = sample_count(routed.body.fields, routed.path)
        pair = self._dispatcher.selector.choose_pair(routed.model, context, avoid, routed.places)
        if samples == 1:
            return PairAttempt(self._dispatcher, routed, pair)
        return SampledAttempt(self._dispatcher, routed, pair, samples)
