"""Imports uvicorn without its command line, which would take 2.5 MB in every process of a router."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def import_uvicorn_without_cli() -> None:
    """Import `uvicorn`; what its package takes from `uvicorn.main` is imported when it is first used.

    Does nothing when uvicorn was imported before.
    """
    if "uvicorn" in sys.modules:
        return
    placeholder = ModuleType("uvicorn.main")
    vars(placeholder)["__getattr__"] = lambda name: None
    sys.modules["uvicorn.main"] = placeholder
    try:
        uvicorn = vars(import_module("uvicorn"))
    finally:
        del sys.modules["uvicorn.main"]
    deferred = [name for name in uvicorn["__all__"] if uvicorn[name] is None]
    for name in deferred:
        del uvicorn[name]

    def import_deferred(name: str) -> Any:
        if name not in deferred:
            raise AttributeError(f"module 'uvicorn' has no attribute {name!r}")
        main = import_module("uvicorn.main")
        uvicorn.update((each, getattr(main, each)) for each in deferred)
        return uvicorn[name]

    uvicorn["__getattr__"] = import_deferred
