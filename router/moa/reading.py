"""What one event of a streamed `/generate` answer says."""

from dataclasses import dataclass
from typing import Any

import orjson

from router.errors import UpstreamFailed
from router.exchange import error_message


@dataclass(frozen=True)
class Progress:
    """An answer so far.

    Attributes:
        text: All text so far; empty without a tokenizer.
        ids: All token ids so far, a stop token included.
        counts: Prompt tokens, completion tokens, cached prompt tokens.
        finish_reason: OpenAI's word for how it ended; None while it runs.
        matched: The stop token or stop string that ended it, or the cause of an abort.
    """

    text: str
    ids: list[int]
    counts: tuple[int, int, int]
    finish_reason: str | None
    matched: int | str | None

    @property
    def cut(self) -> bool:
        """Whether a stop string ended it, behind which its ids may go on."""
        return isinstance(self.matched, str)

    @property
    def answer_ids(self) -> list[int]:
        """Its token ids without the stop token."""
        return self.ids[:-1] if self.ids and self.ids[-1] == self.matched else self.ids


def read_event(event: bytes, agent: str) -> Progress:
    """Read one event; raises `UpstreamFailed`, which names the agent, when it tells an error or is odd."""
    try:
        told = orjson.loads(event)
        if "error" in told:
            raise UpstreamFailed(f"agent {agent} failed while it answered: {error_message(event)}")
        progress = _read(told)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UpstreamFailed(f"agent {agent} failed: its answer is not in SGLang's form.") from None
    if progress.finish_reason == "abort":
        raise UpstreamFailed(f"agent {agent} failed: its worker aborted it ({progress.matched or 'no cause given'}).")
    return progress


def _read(told: dict[str, Any]) -> Progress:
    meta = told["meta_info"]
    ended = meta.get("finish_reason") or {}
    if ended.get("type") == "abort":  # such an event has no counts
        return Progress("", [], (0, 0, 0), "abort", ended.get("message"))
    counts = (meta["prompt_tokens"], meta["completion_tokens"], meta.get("cached_tokens", 0))
    return Progress(told.get("text") or "", told["output_ids"], counts, ended.get("type"), ended.get("matched"))
