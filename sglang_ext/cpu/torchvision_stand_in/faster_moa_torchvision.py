"""A text-only stand-in for torchvision, used only where the real one is not installed.

SGLang imports torchvision unconditionally, and torchvision's wheel needs CUDA libraries. Any
submodule of the stand-in imports, any attribute of it is an inert class, and making an instance
of such a class raises `RuntimeError`. The finder stands last on `sys.meta_path`, so a real
torchvision always wins.
"""

import importlib.machinery
import sys
import types

_NAME = "torchvision"


class _InertMeta(type):
    """Class attributes of an inert class are strings: enough for enums used as default values."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"{cls.__name__}.{name}"


def _refuse(self, *args, **kwargs):
    raise RuntimeError(
        f"torchvision is not installed, and its text-only stand-in has no {type(self).__name__}; "
        "install torchvision to serve image models."
    )


class _StandIn(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        inert = _InertMeta(name, (), {"__init__": _refuse})
        setattr(self, name, inert)
        return inert


class _Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == _NAME or name.startswith(_NAME + "."):
            return importlib.machinery.ModuleSpec(name, _Finder, is_package=True)
        return None

    @staticmethod
    def create_module(spec):
        return _StandIn(spec.name)

    @staticmethod
    def exec_module(module):
        if module.__name__ == _NAME:
            module.__version__ = "0.0.0"


def install():
    """Put the finder last, once."""
    if _Finder not in sys.meta_path:
        sys.meta_path.append(_Finder)
