"""The part of the public surface that can be read off without serving anything: commands, flags, keys, names."""

import argparse
import ast
import inspect
import io
import os
import re
import runpy
import sys
import tomllib
import warnings
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import qmetric
from msgspec.json import schema_components

from launch.config.schema import LaunchConfig
from router import errors
from router.access.key_file import KeyFile
from router.cli.parser import build_parser
from router.cli.refused_flags import REFUSED_FLAGS
from router.early_exit import Decision
from router.endpoints.not_offered import PATHS_NOT_OFFERED
from router.moa.tree_files import Trees, shipped_trees
from sglang_ext.patches import PATCHES

ROOT = Path(__file__).parents[2]
PRODUCT = ("router", "sglang_ext", "launch", "kernels/qmetric")
COMMANDS = (
    "router",
    "router.bench",
    "router.bench.abuse",
    "router.bench.load_balancing",
    "router.bench.moa",
    "router.bench.speculative_prefill",
    "router.bench.speculative_prefill.tail_profile",
    "router.parity",
    "router.timeline",
    "launch.experiment",
    "launch.pd",
    "sglang_ext",
    "sglang_ext.bench",
    "qmetric.bench",
    "qmetric.bench.check",
    "qmetric.bench.tune",
)
_OPTION = re.compile(r"^  (-.*?)(?:  .*)?$", re.MULTILINE)
_NAME = re.compile(r"(?<![\w-])--?[a-z][\w-]*")
_VARIABLE = re.compile(r"(?:SGLANG_EXT|FASTER_MOA|QMETRIC)_[A-Z_]+|KUBECONFIG|FORWARDED_ALLOW_IPS|XDG_CACHE_HOME")


def static_surface() -> dict[str, Any]:
    """Everything that needs no running router."""
    return {
        "commands": _commands(),
        "entry points": _entry_points(),
        "environment variables": _constants(_VARIABLE),
        "router flags": {name: _flag(action) for action in _actions() for name in action.option_strings},
        "router flags refused": sorted(REFUSED_FLAGS),
        "router paths refused": sorted(PATHS_NOT_OFFERED),
        "router errors": sorted({f"{kind.status} {kind.kind}" for kind in _subclasses(errors.RouterError)}),
        "decision in a trace": [each.name for each in fields(Decision)],
        "launch config": LaunchConfig.model_json_schema(),
        "trees file": schema_components([Trees])[1],
        "keys file": schema_components([KeyFile])[1],
        "shipped trees": shipped_trees(),
        "qmetric": {name: str(inspect.signature(getattr(qmetric, name))) for name in qmetric.__all__},
        "patched symbols of SGLang": sorted({patch.target for patch in PATCHES}),
    }


def _commands() -> dict[str, list[str]]:
    """The names of each command's options, as its `--help` lists them."""
    return {command: _options(command) for command in COMMANDS}


def _options(command: str) -> list[str]:
    """As `python -m` runs the command, but in this process: several of them import PyTorch."""
    told = io.StringIO()
    with (
        warnings.catch_warnings(action="ignore", category=RuntimeWarning),  # other tests have imported some of them
        mock.patch.object(sys, "argv", [command, "--help"]),
        mock.patch.dict(os.environ, {"COLUMNS": "400"}),
        redirect_stdout(told),
        pytest.raises(SystemExit) as ended,
    ):
        runpy.run_module(command, run_name="__main__", alter_sys=True)
    assert not ended.value.code, f"{command} --help ends with {ended.value.code}"
    return [name for option in _OPTION.findall(told.getvalue()) for name in _NAME.findall(option.partition("{")[0])]


def _entry_points() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]


def _constants(pattern: re.Pattern[str]) -> list[str]:
    """The string constants of the product that match."""
    return sorted({text for text in _strings() if pattern.fullmatch(text)})


def _strings() -> Iterator[str]:
    for folder in PRODUCT:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def _actions() -> list[argparse.Action]:
    return [
        action
        for action in build_parser()._actions
        if not set(action.option_strings) <= {*REFUSED_FLAGS, "-h", "--help"}
    ]


def _flag(action: argparse.Action) -> dict[str, Any]:
    told: dict[str, Any] = {"default": _plain(action.default)}
    if action.nargs is not None:
        told["values"] = action.nargs
    if action.type is not None:
        told["type"] = getattr(action.type, "__name__", str(action.type))
    if action.choices is not None:
        told["choices"] = sorted(action.choices)
    return told


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _subclasses(kind: type[errors.RouterError]) -> Iterator[type[errors.RouterError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _subclasses(each)
