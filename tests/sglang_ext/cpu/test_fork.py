"""Tokenizers of forked servers are loaded once."""

import ast
import importlib.util
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
    a_name = "on/a-hub"  # where it may change at any time
    assert fork.share_tokenizer(load, a_name, revision=None) is not fork.share_tokenizer(load, a_name, revision=None)


@pytest.mark.parametrize("name", ["tokenizer.json", "additional_chat_templates/tool_use.jinja"])
def test_a_changed_folder_is_loaded_anew(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    (tmp_path / "pruned").symlink_to("nothing")
    first = fork.share_tokenizer(load, str(tmp_path))
    assert fork.share_tokenizer(load, str(tmp_path)) is first
    os.utime(tmp_path / name, (1, 1))
    assert fork.share_tokenizer(load, str(tmp_path)) is not first
    assert len(fork._tokenizers) == 1


def test_servers_that_are_not_forked_load_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(fork.START_METHOD)
    assert fork.share_tokenizer(load, "m") is not fork.share_tokenizer(load, "m")


@pytest.mark.servers  # imports SGLang, for seconds
@pytest.mark.parametrize(
    ("argv", "loaded"),
    [
        (["--model-path", "m", "--port", "1"], ["m"]),
        (["--port", "1", "--model=m"], ["m"]),
        (["--model-path", "n", "--model-path", "m"], ["m"]),
        (["--model-path", "on/a-hub"], []),
        (["--help"], []),
        (["--model-path"], []),
        (["--model-path", "m", "--tokenizer-path", "t"], []),
        (["--model-path", "m", "--tokenizer-path=t"], []),
        (["--model-path", "m", "--trust-remote-code"], []),
        (["--model-path", "m", "--skip-tokenizer-init"], []),
    ],
)
def test_a_tokenizer_is_loaded_ahead_where_the_flags_tell_which(
    argv: list[str], loaded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sglang.srt.utils import hf_transformers_utils

    asked: list[str] = []

    class Panic(BaseException):
        """As of a library in Rust."""

    def get_tokenizer(path: str, **options: Any) -> None:
        asked.append(path)
        raise Panic

    monkeypatch.setattr(hf_transformers_utils, "get_tokenizer", get_tokenizer)
    monkeypatch.chdir(tmp_path)
    for folder in "mnt":
        Path(folder).mkdir()
    assert not fork.load_tokenizer(argv)
    assert asked == loaded


@pytest.mark.parametrize("module", ["scheduler", "tp_worker", "tokenizer_manager", "detokenizer_manager"])
def test_it_is_asked_for_as_by_sglangs_processes(module: str) -> None:
    """Otherwise the one that was loaded ahead would be found by none of them."""
    sglang = importlib.util.find_spec("sglang")
    assert sglang is not None
    assert sglang.origin is not None
    theirs = keywords((Path(sglang.origin).parent / "srt" / "managers" / f"{module}.py").read_text())
    assert theirs == keywords(Path(fork.__file__).read_text())


def keywords(source: str) -> set[tuple[str | None, ...]]:
    """With which keywords a module calls `get_tokenizer`."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return {
        tuple(keyword.arg for keyword in call.keywords)
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "get_tokenizer"
    }
