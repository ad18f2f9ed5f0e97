"""What runs share: the way to the workers, and what was learned of them."""

from collections.abc import Callable

from router.dispatch.dispatcher import Dispatcher
from router.early_exit import AgreementJudge
from router.http.ids import new_id
from router.speculative_prefill.composition import AnswerEncoder, ids_unless_cut, reencoded_text
from router.speculative_prefill.metrics import OpenPromptMetrics
from router.speculative_prefill.pacing import SegmentPacer
from router.speculative_prefill.tokenizer import WorkerTokenizer
from router.speculative_prefill.transport import SegmentTransport, transport_for
from router.speculative_prefill.upstream_answer import UpstreamAnswer
from router.workers.worker import Pair


class RunContext:
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
        carry: Callable[[Pair], SegmentTransport] = transport_for,
        judge: AgreementJudge | None = None,
        new_run: Callable[[], str] = lambda: f"run-{new_id()}",
        metrics: OpenPromptMetrics | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        self.registry = dispatcher.registry
        self.carry = carry
        self.judge = judge
        self.new_run = new_run
        self.metrics = metrics
        self._pacers: dict[str, SegmentPacer] = {}
        self._same: dict[tuple[str, str], bool] = {}

    def pacer(self, model: str) -> SegmentPacer:
        """What is known of the cost of a model's segments."""
        return self._pacers.setdefault(model, SegmentPacer())

    def tokenizer(self, model: str) -> WorkerTokenizer:
        """The tokenizer of a model; raises `NoWorker` when no prefill server of it is healthy."""
        return WorkerTokenizer(self.registry.usable(model, "prefill")[0])

    def limit(self, model: str) -> int | None:
        """The context length of a model, in tokens; None when its workers do not tell."""
        told = self.registry.usable(model, "decode")[0].info.get("context_length")
        return told if isinstance(told, int) else None

    def encoder(self, reader: str) -> AnswerEncoder:
        """How answers become token ids of a model: their own where the tokenizers agree, else their text's."""
        mine = self.tokenizer(reader)
        ids, text = ids_unless_cut(mine), reencoded_text(mine)

        async def encode(answer: UpstreamAnswer) -> list[int]:
            model = answer.model
            if model is not None and (model, reader) not in self._same:
                self._same[model, reader] = model == reader or await mine.same_as(self.tokenizer(model))
            passes = model is not None and self._same[model, reader]
            return list(await (ids if passes else text)(answer))

        return encode
