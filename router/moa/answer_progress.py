"""What is known of an agent's answer while it comes."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class AnswerProgress:
    """An answer so far.

    Attributes:
        text: All text so far; empty without a tokenizer.
        ids: All token ids so far, a stop token included.
        token_counts: Prompt tokens, completion tokens, cached prompt tokens.
        finish_reason: As in OpenAI's API; None while it runs.
        matched: The stop token or stop string that ended it, or the cause of an abort.
        logprobs: Log-probabilities of its tokens, if requested; from `/generate` only with the last event.
        reasoning: What the model thought before it answered, where the server tells that apart from the text.
    """

    text: str = ""
    ids: list[int] = field(default_factory=list)
    token_counts: tuple[int, int, int] = (0, 0, 0)
    finish_reason: str | None = None
    matched: int | str | None = None
    logprobs: list[float] = field(default_factory=list)
    reasoning: str = ""

    @property
    def cut(self) -> bool:
        """Whether a stop string ended it: then `ids` may go on behind the end of `text`."""
        return isinstance(self.matched, str)

    @property
    def answer_ids(self) -> list[int]:
        """Its token ids without the stop token."""
        return self.ids[:-1] if self.ids and self.ids[-1] == self.matched else self.ids
