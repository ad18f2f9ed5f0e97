"""A real tokenizer, and others that differ from it in little: none of them in a common text."""

import json
from collections.abc import Callable
from functools import cache
from typing import Any

from tokenizers import Tokenizer

from launch.models.packaged import prepare

Parts = dict[str, Any]  # a tokenizer's serialized JSON


def smollm2() -> Tokenizer:
    """SmolLM2's tokenizer: 49,152 byte-level tokens, 17 of them special."""
    return Tokenizer.from_file(str(prepare("smollm2") / "tokenizer.json"))


def first_tokens(count: int) -> Tokenizer:
    """SmolLM2's tokenizer without its rarer tokens: to read or write all of them takes a large part of a second."""
    parts = json.loads(smollm2().to_str())
    model = parts["model"]
    vocab = model["vocab"] = {token: index for token, index in model["vocab"].items() if index < count}
    model["merges"] = [merge for merge in model["merges"] if "".join(merge) in vocab]
    return Tokenizer.from_str(json.dumps(parts))


def _an_added_token(parts: Parts) -> None:
    special = parts["added_tokens"][0]
    parts["added_tokens"].append({**special, "id": len(parts["model"]["vocab"]), "content": "<|tool|>"})


def _another_special_token(parts: Parts) -> None:
    token = next(each for each in parts["added_tokens"] if each["content"] == "<file_sep>")
    vocab = parts["model"]["vocab"]
    del vocab["<file_sep>"]
    token["content"] = "<|turn_end|>"
    vocab["<|turn_end|>"] = token["id"]


def _two_words_swapped(parts: Parts) -> None:
    vocab = parts["model"]["vocab"]
    vocab["Ġblue"], vocab["Ġgreen"] = vocab["Ġgreen"], vocab["Ġblue"]


def _one_more_merge(parts: Parts) -> None:
    model = parts["model"]
    model["vocab"]["Ġblueberry"] = len(model["vocab"])
    model["merges"].append(["Ġblue", "berry"])


CHANGES: dict[str, Callable[[Parts], None]] = {
    "an added token": _an_added_token,
    "another special token": _another_special_token,
    "two words swapped": _two_words_swapped,
    "one more merge": _one_more_merge,
}


@cache
def changed(tokenizer: Tokenizer, change: str) -> Tokenizer:
    """A copy with one of `CHANGES`, made once."""
    parts = json.loads(tokenizer.to_str())
    CHANGES[change](parts)
    return Tokenizer.from_str(json.dumps(parts))
