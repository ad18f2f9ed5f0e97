"""The Protocols of `sglang_ext.upstream` have only members that SGLang's classes have and the overlay uses."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest

from sglang_ext import upstream
from sglang_ext.patching.verify import resolve

pytestmark = pytest.mark.servers  # imports all of SGLang

OVERLAY = Path(upstream.__path__[0]).parent
# `KVArgs` does not declare it; `NixlKVManager` reads it with `getattr`.
READ_ELSEWHERE = {("KVArgs", "kv_data_mem_kinds")}


def protocols() -> list[type]:
    found: list[type] = []
    for module in pkgutil.iter_modules(upstream.__path__, f"{upstream.__name__}."):
        members = vars(importlib.import_module(module.name)).values()
        found += [each for each in members if isinstance(each, type) and each.__module__ == module.name]
    return found


def members_of(protocol: Any) -> set[str]:
    members = {name for name, each in vars(protocol).items() if inspect.isfunction(each) or isinstance(each, property)}
    return (members | set(protocol.__annotations__)) - {"__init__", "__subclasshook__", "_no_init_or_replace_init"}


def test_there_are_protocols() -> None:
    assert {"Scheduler", "Request", "RadixCache", "KVManager"} <= {each.__name__ for each in protocols()}


@pytest.mark.parametrize("protocol", protocols(), ids=lambda each: each.__name__)
def test_members_exist(protocol: Any) -> None:
    path = re.match(r"`([\w.]+)`", protocol.__doc__)
    assert path is not None, "the docstring begins with the class's path"
    theirs: Any = resolve(path[1])
    sources = [
        inspect.getsource(each) for each in theirs.__mro__ if each.__module__.split(".")[0] in ("sglang", "requests")
    ]
    for name in members_of(protocol):
        declared = rf"(self\.{name}\b|def {name}\(|^    {name}\b)"
        known = any(re.search(declared, source, re.MULTILINE) for source in sources) or hasattr(theirs, name)
        assert known or (protocol.__name__, name) in READ_ELSEWHERE, name


@pytest.mark.parametrize("protocol", protocols(), ids=lambda each: each.__name__)
def test_members_are_used(protocol: Any) -> None:
    modules = [path for path in OVERLAY.rglob("*.py") if path.parent.name != "upstream"]
    source = "\n".join(path.read_text() for path in modules)
    named = {name for name in members_of(protocol) if not name.startswith("__")}
    assert {name for name in named if not re.search(rf"\.{name}\b|\"{name}\"", source)} == set()
