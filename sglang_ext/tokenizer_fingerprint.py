"""A fingerprint of a tokenizer: servers with the same one mean the same text by the same token ids."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

# Set by callers from one text to the next, or of no effect without added special tokens, which the router never wants.
NOT_MEANING = ("truncation", "padding", "post_processor")


def tokenizer_fingerprint(tokenizer: Any) -> str | None:
    """32 hexadecimal digits; None without a tokenizer, or for one that does not tell its vocabulary.

    It covers all that decides which text an id is and which ids a text becomes: vocabulary, merges, added tokens,
    normalizer, pre-tokenizer and decoder. Of a tokenizer that is not of the `tokenizers` library, only the vocabulary,
    the added tokens and the class.

    Args:
        tokenizer: Of `transformers` or of SGLang.
    """
    if tokenizer is None:
        return None
    backend = getattr(tokenizer, "backend_tokenizer", None)
    try:
        if backend is not None and hasattr(backend, "to_str"):
            parts = json.loads(backend.to_str())
            meaning = {key: value for key, value in parts.items() if key not in NOT_MEANING}
        else:
            added = tokenizer.get_added_vocab()
            meaning = {"class": type(tokenizer).__name__, "vocab": tokenizer.get_vocab(), "added": added}
        canonical = json.dumps(meaning, sort_keys=True)
    except Exception:  # a model's own tokenizer may raise anything, and none of it may keep the server from starting
        return None
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


@dataclass(frozen=True)
class TokenizerFingerprint:
    """The fingerprint of a server's tokenizer, computed once: a large vocabulary takes a third of a second to read."""

    value: str | None

    @classmethod
    def of(cls, tokenizer: Any) -> "TokenizerFingerprint":
        """Read a tokenizer."""
        return cls(tokenizer_fingerprint(tokenizer))
