"""What token ids mean: whether the ids that one model's servers wrote may stand in a prompt of another model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from router.workers.worker import Worker

Comparison = Literal["same", "different", "unknown"]


@dataclass(frozen=True)
class Vocabulary:
    """What is known of the tokenizers of some servers of one model.

    Attributes:
        model: The model's name.
        fingerprints: Of their tokenizers, as the overlay tells; None among them for a server that does not tell.
        ids_only: Whether none of them has a tokenizer: what the ids mean is then the clients' affair.
    """

    model: str
    fingerprints: frozenset[str | None]
    ids_only: bool = False

    @classmethod
    def of_workers(cls, model: str, workers: Sequence[Worker]) -> Self:
        """That of servers of a model, at least one."""
        ids_only = all(worker.report.skip_tokenizer_init is True for worker in workers)
        return cls(model, frozenset(worker.report.tokenizer for worker in workers), ids_only)

    def compare(self, other: "Vocabulary") -> Comparison:
        """Whether ids of `other` mean the same here; `unknown` where only the servers' answers can tell."""
        if self.ids_only:
            return "same"  # nothing but ids can be sent
        known = self.fingerprints | other.fingerprints
        if len(known - {None}) > 1:
            return "different"
        return "same" if None not in known or self.model == other.model else "unknown"
