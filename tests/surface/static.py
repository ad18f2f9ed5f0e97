"""The part of the public surface that can be read off without serving anything: commands, flags, keys, names."""

import argparse
import ast
import inspect
import re
import runpy
import sys
import tomllib
import warnings
from collections.abc import Iterator
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
INTERNAL = {
    "launch.experiment.benchmarks.sandbox.jail",
    "launch.experiment.benchmarks.workers.instructions",
    "launch.experiment.benchmarks.workers.mathematics",
    "launch.experiment.lengths",
    "launch.install",
    "launch.models.convert_smollm2",
    "launch.processes.zygote_main",
    "router.bench.abuse.abuses",
    "router.bench.abuse.fake_pair",
    "router.bench.failover.fake_server",
    "router.bench.fake_pair",
    "router.bench.moa.clients",
    "router.bench.moa.fake_pair",
    "router.early_exit.judge_main",
}  # modules that `python -m` runs, but that only the product itself starts, or `make`
_VARIABLE = re.compile(
    r"(?:SGLANG_EXT|FASTER_MOA|QMETRIC)_[A-Z_]+|SGLANG_PLATFORM|SGLANG_USE_CPU_ENGINE|KUBECONFIG|FORWARDED_ALLOW_IPS|XDG_CACHE_HOME"
)


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
        "launch config": without_words(LaunchConfig.model_json_schema()),
        "trees file": without_words(schema_components([Trees])[1]),
        "keys file": without_words(schema_components([KeyFile])[1]),
        "shipped trees": shipped_trees(),
        "qmetric": {name: str(inspect.signature(getattr(qmetric, name))) for name in qmetric.__all__},
        "patched symbols of SGLang": sorted({patch.target for patch in PATCHES}),
    }


def without_words(value: Any) -> Any:
    """A document, such as a JSON schema, without what only explains it."""
    if isinstance(value, dict):
        return {key: without_words(each) for key, each in value.items() if key not in ("summary", "description")}
    return [without_words(each) for each in value] if isinstance(value, list) else value


def _commands() -> dict[str, dict[str, Any]]:
    """The arguments of each command but the router, as it declares them."""
    return {command: _arguments(command) for command in sorted({*_modules()} - INTERNAL - {"router"})}


def _modules() -> Iterator[str]:
    """What users run by `python -m`."""
    for folder in PRODUCT:
        for path in (ROOT / folder).rglob("*.py"):
            if 'if __name__ == "__main__":' in path.read_text():
                parts = (
                    path.relative_to(ROOT / ("kernels" if folder.startswith("kernels") else "")).with_suffix("").parts
                )
                yield ".".join(parts[:-1] if parts[-1] == "__main__" else parts)


class _Parsed(Exception):
    """What a command would have parsed its command line with."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def _arguments(command: str) -> dict[str, Any]:
    """As `python -m` runs the command, but in this process: several of them import PyTorch."""

    def parse(parser: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> None:
        raise _Parsed(parser)

    with (
        warnings.catch_warnings(action="ignore", category=RuntimeWarning),  # other tests have imported some of them
        mock.patch.object(sys, "argv", [command]),
        mock.patch.object(argparse.ArgumentParser, "parse_known_args", parse),
        pytest.raises(_Parsed) as parsed,
    ):
        runpy.run_module(command, run_name="__main__", alter_sys=True)
    return {
        " ".join(action.option_strings) or action.dest: _flag(action)
        for action in parsed.value.parser._actions
        if not isinstance(action, argparse._HelpAction)
    }


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
    """A default as JSON: a path within the project without the folder that the project lies in."""
    if isinstance(value, Path):
        return str(value.relative_to(ROOT) if value.is_relative_to(ROOT) else value)
    return list(value) if isinstance(value, tuple) else value


def _subclasses(kind: type[errors.RouterError]) -> Iterator[type[errors.RouterError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _subclasses(each)
