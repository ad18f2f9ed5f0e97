"""The names of hooks in the list of patches, which no type checker and no import contract sees."""

import ast
from functools import cache
from pathlib import Path

import pytest

import sglang_ext
from sglang_ext.patches import PATCHES
from sglang_ext.patching.patch import Patch

ROOT = Path(sglang_ext.__path__[0]).parent
BELOW_PLUGIN = {"cpu", "fixes", "install", "open_prompt", "server_info", "transfer"}


@cache
def functions(module: str) -> dict[str, str]:
    """The functions of a module and their docstrings, read without importing it."""
    source = (ROOT / module.replace(".", "/")).with_suffix(".py").read_text()
    found = (each for each in ast.parse(source).body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return {each.name: ast.get_docstring(each) or "" for each in found}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.hook)
def test_a_hook_is_there_and_says_how_it_is_applied(patch: Patch) -> None:
    module, name = patch.hook.split(":")
    assert module.split(".")[1] in BELOW_PLUGIN
    assert functions(module)[name].startswith(f"{patch.kind.name} ")
