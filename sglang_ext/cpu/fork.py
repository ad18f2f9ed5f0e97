"""Forked servers: one process imports SGLang and loads tokenizers, and all servers share its memory pages."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

START_METHOD = "SGLANG_EXT_START_METHOD"
_MODEL_FLAGS = ("--model-path", "--model")
_TOKENIZER_FLAGS = ("--tokenizer-path", "--tokenizer-mode", "--tokenizer-backend", "--revision", "--trust-remote-code")
_tokenizers: dict[object, Any] = {}


def restore_start_method(result: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER `_set_envs_and_config`, which sets "spawn": go back to the method that the launcher chose."""
    method = os.environ.get(START_METHOD)
    if method:
        multiprocessing.set_start_method(method, force=True)


def share_tokenizer(original: Callable[..., Any], path: str, *args: Any, **kwargs: Any) -> Any:
    """AROUND `get_tokenizer`: where servers are forked, return the one that this process, or one above it, has loaded.

    A server's three processes load four, each for more than a second. A folder whose files have changed since is
    loaded anew.
    """
    if START_METHOD not in os.environ:
        return original(path, *args, **kwargs)
    key = path, repr((args, sorted(kwargs.items()))), _modification_times(Path(path))
    if key not in _tokenizers:
        _tokenizers[key] = original(path, *args, **kwargs)
    return _tokenizers[key]


def load_tokenizer(argv: Sequence[str]) -> None:
    """Load the tokenizer of a server that will be started with these arguments, unless they say something else of it.

    What fails here is not told: the server will fail on it too.
    """
    path = next((value for name, value in pairwise(argv) if name in _MODEL_FLAGS), None)
    if path is None or any(flag in argv for flag in _TOKENIZER_FLAGS):
        return
    try:
        from sglang.srt.utils.hf_transformers_utils import get_tokenizer

        # As SGLang's own processes ask for it.
        get_tokenizer(
            path, tokenizer_mode="auto", trust_remote_code=False, revision=None, tokenizer_backend="huggingface"
        )
    except Exception:
        return


def _modification_times(folder: Path) -> tuple[tuple[str, int], ...]:
    """Of the files of a local model; none of a name on a hub."""
    if not folder.is_dir():
        return ()
    return tuple(sorted((each.name, each.stat().st_mtime_ns) for each in folder.iterdir()))
