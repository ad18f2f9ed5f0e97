"""Tokenizers of forked servers are loaded once."""

import os
from pathlib import Path
from typing import Any

import pytest

from sglang_ext.cpu import fork


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fork, "_tokenizers", {})
    monkeypatch.setenv(fork.START_METHOD, "fork")


def load(path: str, **options: Any) -> object:
    """As SGLang's function: a new tokenizer each time."""
    return object()


def test_one_tokenizer_for_all_that_ask_alike(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    first = fork.share_tokenizer(load, str(tmp_path), revision=None)
    assert fork.share_tokenizer(load, str(tmp_path), revision=None) is first
    assert fork.share_tokenizer(load, str(tmp_path), revision="b") is not first
    assert fork.share_tokenizer(load, "a/name", revision=None) is fork.share_tokenizer(load, "a/name", revision=None)


def test_a_changed_folder_is_loaded_anew(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    first = fork.share_tokenizer(load, str(tmp_path))
    os.utime(tmp_path / "tokenizer.json", (1, 1))
    assert fork.share_tokenizer(load, str(tmp_path)) is not first


def test_servers_that_are_not_forked_load_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fork.START_METHOD)
    assert fork.share_tokenizer(load, "m") is not fork.share_tokenizer(load, "m")


@pytest.mark.servers  # imports SGLang, for seconds
@pytest.mark.parametrize(
    ("argv", "loaded"),
    [
        (["--model-path", "m", "--port", "1"], ["m"]),
        (["--port", "1", "--model", "m"], ["m"]),
        (["--help"], []),
        (["--model-path"], []),
        (["--model-path", "m", "--tokenizer-path", "t"], []),
        (["--model-path", "m", "--trust-remote-code"], []),
    ],
)
def test_a_tokenizer_is_loaded_ahead_where_the_flags_tell_which(
    argv: list[str], loaded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sglang.srt.utils import hf_transformers_utils

    asked: list[str] = []

    def get_tokenizer(path: str, **options: Any) -> None:
        asked.append(path)
        raise OSError("no such model")  # which the server itself will say

    monkeypatch.setattr(hf_transformers_utils, "get_tokenizer", get_tokenizer)
    fork.load_tokenizer(argv)
    assert asked == loaded
