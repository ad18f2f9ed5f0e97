"""What runs share: the way to the workers, and what was learned of them."""

from collections.abc import Callable

from router.dispatch.dispatcher import Dispatcher
from router.early_exit import Judging
from router.http.ids import fresh_id
from router.speculative_prefill.composition import Encode, passed_on, reencoded
from router.speculative_prefill.metrics import OpenPromptMetrics
from router.speculative_prefill.pacing import Pacer
from router.speculative_prefill.tokenizer import Tokenizer
from router.speculative_prefill.transport import Carrier, carrier_for
from router.speculative_prefill.upstream_answer import Answer
from router.workers.worker import Pair


class Context:
    """Of one router.

    Args:
        dispatcher: Sends the requests.
        carry: How open prompts reach a pair.
        judge: Measures how much answers agree; None where no run exits early by Q.
        new_run: Gives a name to each run of a tree.
        metrics: Counts what open prompts did; None counts nothing.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        carry: Callable[[Pair], Carrier] = carrier_for,
        judge: Judging | None = None,
        new_run: Callable[[], str] = lambda: f"run-{fresh_id()}",
        metrics: OpenPromptMetrics | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        self.registry = dispatcher.registry
        self.carry = carry
        self.judge = judge
        self.new_run = new_run
        self.metrics = metrics
        self._pacers: dict[str, Pacer] = {}
        self._same: dict[tuple[str, str], bool] = {}

    def pacer(self, model: str) -> Pacer:
        """What is known of the cost of a model's segments."""
        return self._pacers.setdefault(model, Pacer())

    def tokenizer(self, model: str) -> Tokenizer:
        """The tokenizer of a model; raises `NoWorker` when no prefill server of it is healthy."""
        return Tokenizer(self.registry.healthy(model, "prefill")[0])

    def limit(self, model: str) -> int | None:
        """The context length of a model, in tokens; None when its workers do not tell."""
        told = self.registry.healthy(model, "decode")[0].info.get("context_length")
        return told if isinstance(told, int) else None

    def encoder(self, reader: str) -> Encode:
        """How answers become token ids of a model: their own where the tokenizers agree, else their text's."""
        mine = self.tokenizer(reader)
        ids, text = passed_on(mine), reencoded(mine)

        async def encode(answer: Answer) -> list[int]:
            model = answer.model
            if model is not None and (model, reader) not in self._same:
                self._same[model, reader] = model == reader or await mine.same_as(self.tokenizer(model))
            passes = model is not None and self._same[model, reader]
            return list(await (ids if passes else text)(answer))

        return encode
