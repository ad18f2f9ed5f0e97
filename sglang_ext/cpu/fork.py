"""Forked servers: one process imports SGLang and loads tokenizers, and all servers share its memory pages."""

import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

START_METHOD = "SGLANG_EXT_START_METHOD"
_MODEL_FLAGS = frozenset(("--model-path", "--model"))
_TOKENIZER_FLAGS = frozenset(
    (
        "--tokenizer-path",
        "--tokenizer-mode",
        "--tokenizer-backend",
        "--skip-tokenizer-init",
        "--revision",
        "--trust-remote-code",
    )
)
_tokenizers: dict[str, tuple[frozenset[tuple[str, int]], Any]] = {}  # by what was asked for: the files, the tokenizer


def restore_start_method(result: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER `_set_envs_and_config`, which sets "spawn": go back to the method that the launcher chose."""
    method = os.environ.get(START_METHOD)
    if method:
        multiprocessing.set_start_method(method, force=True)


def share_tokenizer(original: Callable[..., Any], path: str, *args: Any, **kwargs: Any) -> Any:
    """AROUND `get_tokenizer`: where servers are forked, return the one that this process, or one above it, has loaded.

    A server's three processes load four, each for more than a second. Only those of folders are shared; one whose files
    have changed since is loaded anew.
    """
    if START_METHOD not in os.environ or not Path(path).is_dir():
        return original(path, *args, **kwargs)
    asked, files = repr((path, args, sorted(kwargs.items()))), frozenset(_modification_times(path))
    found, tokenizer = _tokenizers.get(asked, (None, None))
    if found != files:
        tokenizer = original(path, *args, **kwargs)
        _tokenizers[asked] = files, tokenizer
    return tokenizer


def load_tokenizer(argv: Sequence[str]) -> bool:
    """Load the tokenizer of a server that will be started with these arguments.

    Returns:
        False where the model is no folder, or the arguments say something else of the tokenizer; and where it cannot be
        loaded, on which the server will fail too.
    """
    words = [word for each in argv for word in (each.split("=", 1) if each.startswith("--") else [each])]
    paths = [words[i + 1] for i, word in enumerate(words[:-1]) if word in _MODEL_FLAGS]
    if not paths or not Path(paths[-1]).is_dir() or not _TOKENIZER_FLAGS.isdisjoint(words):
        return False
    try:
        from sglang.srt.utils.hf_transformers_utils import get_tokenizer

        # As SGLang's own processes ask for it.
        get_tokenizer(
            paths[-1], tokenizer_mode="auto", trust_remote_code=False, revision=None, tokenizer_backend="huggingface"
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in a tokenizer's Rust is no Exception, and must not end other servers
        logger.warning("the tokenizer of %s is not loaded ahead: %r", paths[-1], error)
        return False
    return True


def _modification_times(path: str) -> Iterator[tuple[str, int]]:
    """Of all files of a model's folder, in ns; a file that has just gone, or a link to nothing, has none."""
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            try:
                yield file, os.stat(file).st_mtime_ns
            except OSError:
                continue
