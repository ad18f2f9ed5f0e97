"""What all runs of one router share: the dispatcher, the judge, metrics and what was learned of each model."""

import uuid
from collections.abc import Callable, Sequence

from router.dispatch.dispatcher import Dispatcher
from router.early_exit import AgreementJudge
from router.errors import BadRequest, NotFound, NoWorker
from router.http.ids import new_id
from router.speculative_prefill.composition import (
    AnswerEncoder,
    ids_if_they_decode_to_text,
    ids_unless_cut,
    reencoded_text,
    same_tokenizer_ids,
)
from router.speculative_prefill.metrics import OpenPromptMetrics
from router.speculative_prefill.pacing import SegmentPacer
from router.speculative_prefill.template_cache import TemplateCache
from router.speculative_prefill.tokenizer import TokenizerState, WorkerTokenizer
from router.speculative_prefill.transport import SegmentTransport, transport_for
from router.speculative_prefill.upstream_answer import UpstreamAnswer
from router.speculative_prefill.vocabulary import Vocabulary
from router.workers.worker import Pair, Worker


class RunContext:
    """Shared by all runs.

    Attributes:
        templates: The prompt templates that agents made lately.
        nonce: Marks the placeholders in trees' prompts, so that a client's text cannot contain one.

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
        self.templates = TemplateCache()
        self.nonce = f"{uuid.uuid4().hex[:12]}:"
        self._pacers: dict[str, SegmentPacer] = {}
        self._tokenizers = TokenizerState()
        self._agreeing_tokenizers: dict[tuple[str, str], bool] = {}  # of an answer's and its reader's model

    def pacer(self, model: str) -> SegmentPacer:
        """The pacer of a model, which learns what its segments cost."""
        return self._pacers.setdefault(model, SegmentPacer())

    def tokenizer(self, model: str) -> WorkerTokenizer:
        """The tokenizer of a model; raises `NoWorker` when no prefill or no decode server of it is healthy."""
        return WorkerTokenizer(self._workers(model), self._tokenizers)

    def context_length(self, model: str) -> int | None:
        """The context length of a model, in tokens; None when its workers do not report it."""
        length = self.registry.usable(model, "decode")[0].report.context_length
        return length if isinstance(length, int) else None

    def answer_encoder(self, reader_model: str) -> AnswerEncoder:
        """Encodes upstream answers for a model: their own token ids where these surely mean the same, else the text's.

        The encoder raises `BadRequest` for an answer of which only token ids are known that may mean something else.

        Raises:
            NoWorker: No prefill or no decode server of the model is healthy.
        """
        workers, tokenizer = self._workers(reader_model), self.tokenizer(reader_model)
        vocabulary = Vocabulary.of_workers(reader_model, workers)
        as_ids = same_tokenizer_ids if vocabulary.ids_only else ids_unless_cut(tokenizer)
        as_text, if_they_say_it = reencoded_text(tokenizer), ids_if_they_decode_to_text(tokenizer)

        async def encode(answer: UpstreamAnswer) -> Sequence[int]:
            upstream = answer.vocabulary
            if upstream is None:
                return await as_text(answer)
            comparison = vocabulary.compare(upstream)
            if comparison == "same":
                return await as_ids(answer)
            if upstream.ids_only:
                raise BadRequest(
                    f"{reader_model} cannot read the answer of agent {answer.name}: {upstream.model} runs without a "
                    "tokenizer, so that it has no text."
                )
            maybe = comparison == "unknown" and await self._tokenizers_agree(upstream.model, reader_model)
            return await (if_they_say_it if maybe else as_text)(answer)

        return encode

    async def _tokenizers_agree(self, model: str, reader_model: str) -> bool:
        """Whether the tokenizers of two models seem to be the same; asked of servers once, while there are any."""
        known = self._agreeing_tokenizers.get((model, reader_model))
        if known is not None:
            return known
        try:
            tokenizer = self.tokenizer(model)
        except (NotFound, NoWorker):
            return False
        known = await self.tokenizer(reader_model).agrees_with(tokenizer)
        self._agreeing_tokenizers[model, reader_model] = known
        return known

    def _workers(self, model: str) -> list[Worker]:
        return [*self.registry.usable(model, "prefill"), *self.registry.usable(model, "decode")]
