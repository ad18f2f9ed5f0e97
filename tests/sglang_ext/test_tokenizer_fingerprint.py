"""Fingerprints of real tokenizers: equal for equal ones, different for any difference in what ids mean."""

from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from sglang_ext.tokenizer_fingerprint import tokenizer_fingerprint
from tests.other_tokenizers import CHANGES, changed, smollm2

OLD_PROBE = "The 1,234 naïve cats' Straße  \n\n\tdef f(x_1): return [x**2]  # 質問 вопрос سؤال 😀 <|im_end|></s>"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return smollm2()


def loaded(tokenizer: Tokenizer) -> Any:
    """As `transformers` loads it."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.fixture(scope="module")
def fingerprint(tokenizer: Tokenizer) -> str:
    found = tokenizer_fingerprint(loaded(tokenizer))
    assert found is not None
    return found


@pytest.mark.parametrize("change", CHANGES)
def test_tokenizers_that_agree_on_a_text_are_told_apart(tokenizer: Tokenizer, fingerprint: str, change: str) -> None:
    other = changed(tokenizer, change)
    assert other.encode(OLD_PROBE).ids == tokenizer.encode(OLD_PROBE).ids
    assert tokenizer_fingerprint(loaded(other)) != fingerprint


def test_equal_ones_are_equal_whatever_they_were_used_for(tokenizer: Tokenizer, fingerprint: str) -> None:
    other = loaded(Tokenizer.from_str(tokenizer.to_str()))
    other.pad_token = "<|im_end|>"
    other(["one", "one and two"], padding=True, truncation=True, max_length=2)
    assert tokenizer_fingerprint(other) == fingerprint


def test_tokenizers_of_other_kinds() -> None:
    def vocabulary(**words: int) -> Any:
        return SimpleNamespace(get_vocab=lambda: words, get_added_vocab=dict)

    assert tokenizer_fingerprint(vocabulary(a=1, b=2)) == tokenizer_fingerprint(vocabulary(b=2, a=1))
    assert tokenizer_fingerprint(vocabulary(a=1, b=2)) != tokenizer_fingerprint(vocabulary(a=2, b=1))
    assert tokenizer_fingerprint(None) is None
    assert tokenizer_fingerprint(object()) is None, "it does not tell its vocabulary"
