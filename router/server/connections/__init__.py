"""Connections of clients: uvicorn's HTTP/1.1 protocol with time limits, and serving on sockets."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


def _import_uvicorn() -> None:
    """Import uvicorn, but its command line not before somebody asks for what is in it.

    With that come a parser, a watch on source files and `multiprocessing`: 2.5 MB in every process of a router.
    """
    later = ModuleType("uvicorn.main")
    vars(later)["__getattr__"] = lambda name: None
    sys.modules["uvicorn.main"] = later
    try:
        names = vars(import_module("uvicorn"))
    finally:
        del sys.modules["uvicorn.main"]
    missing = [name for name in names["__all__"] if names[name] is None]
    for name in missing:
        del names[name]

    def ask(name: str) -> Any:
        if name not in missing:
            raise AttributeError(f"module 'uvicorn' has no attribute {name!r}")
        main = import_module("uvicorn.main")
        names.update((each, getattr(main, each)) for each in missing)
        return names[name]

    names["__getattr__"] = ask


if "uvicorn" not in sys.modules:
    _import_uvicorn()
