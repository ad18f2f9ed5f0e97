"""What all runs of one router share: the dispatcher, the judge, metrics and what was learned of each model."""

from collections.abc import Callable

from router.dispatch.dispatcher import Dispatcher
from router.early_exit import AgreementJudge
from router.http.ids import new_id
from router.speculative_prefill.composition import AnswerEncoder, ids_unless_cut, reencoded_text
from router.speculative_prefill.metrics import OpenPromptMetrics
from router.speculative_prefill.pacing import SegmentPacer
from router.speculative_prefill.tokenizer import TokenizerState, WorkerTokenizer
from router.speculative_prefill.transport import SegmentTransport, transport_for
from router.speculative_prefill.upstream_answer import UpstreamAnswer
from router.workers.worker import Pair


class RunContext:
    """Shared by all runs.

    Args:
        dispatcher: Sends the requests.
        make_transport: How segments of open prompts are sent to a pair.
        judge: Measures how much answers agree; None when no run exits early by Q.
        new_run_id: Makes the id of a tree's run.
        metrics: Counts open prompts; None counts nothing.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        make_transport: Callable[[Pair], SegmentTransport] = transport_for,
        judge: AgreementJudge | None = None,
        new_run_id: Callable[[], str] = lambda: f"run-{new_id()}",
        metrics: OpenPromptMetrics | None = None,
    ) -> None:
        self.dispatcher = dispatcher
        self.registry = dispatcher.registry
        self.make_transport = make_transport
        self.judge = judge
        self.new_run_id = new_run_id
        self.open_prompt_metrics = metrics
        self._pacers: dict[str, SegmentPacer] = {}
        self._tokenizers = TokenizerState()
        self._same_tokenizer: dict[tuple[str, str], bool] = {}

    def pacer(self, model: str) -> SegmentPacer:
        """The pacer of a model, which learns what its segments cost."""
        return self._pacers.setdefault(model, SegmentPacer())

    def tokenizer(self, model: str) -> WorkerTokenizer:
        """The tokenizer of a model; raises `NoWorker` when no prefill or no decode server of it is healthy."""
        workers = [*self.registry.usable(model, "prefill"), *self.registry.usable(model, "decode")]
        return WorkerTokenizer(workers, self._tokenizers)

    def context_length(self, model: str) -> int | None:
        """The context length of a model, in tokens; None when its workers do not report it."""
        length = self.registry.usable(model, "decode")[0].info.get("context_length")
        return length if isinstance(length, int) else None

    def answer_encoder(self, reader_model: str) -> AnswerEncoder:
        """Encodes upstream answers for a model: their own token ids if the tokenizers agree, else their text's."""
        tokenizer = self.tokenizer(reader_model)
        ids, text = ids_unless_cut(tokenizer), reencoded_text(tokenizer)

        async def encode(answer: UpstreamAnswer) -> list[int]:
            model = answer.model
            if model is not None and (model, reader_model) not in self._same_tokenizer:
                same = model == reader_model or await tokenizer.same_as(self.tokenizer(model))
                self._same_tokenizer[model, reader_model] = same
            is_same = model is not None and self._same_tokenizer[model, reader_model]
            return list(await (ids if is_same else text)(answer))

        return encode
