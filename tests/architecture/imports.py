"""What imports what, read off the source: imports inside functions, for types alone and by name count too."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Where the modules of a top-level package lie.
FOLDERS = {"router": ROOT / "router", "launch": ROOT / "launch", "sglang_ext": ROOT / "sglang_ext"}
FOLDERS |= {"qmetric": ROOT / "kernels" / "qmetric", "moa_client": ROOT / "client" / "moa_client"}


def folder_of(package: str) -> Path:
    """The folder of a package, given by its dotted name."""
    top, *rest = package.split(".")
    return FOLDERS[top].joinpath(*rest)


def packages(top: str) -> list[str]:
    """A top-level package and every package in it."""
    folder = FOLDERS[top]
    found = [path.parent for path in sorted(folder.rglob("__init__.py"))]
    return [".".join((top, *path.relative_to(folder).parts)) for path in found]


def children(package: str) -> list[str]:
    """The modules and packages directly in a package, without `__init__`."""
    folder = folder_of(package)
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    return sorted([*modules, *(path.parent.name for path in folder.glob("*/__init__.py"))])


@cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Everything in a file."""
    return tuple(ast.walk(ast.parse(path.read_text())))


@cache
def imported(path: Path) -> frozenset[str]:
    """The dotted names that a file imports: of `from a import b` both `a` and `a.b`, which may be a module."""
    return frozenset(_imported(path))


def _imported(path: Path) -> Iterator[str]:
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__"):
            yield from (each.value for each in node.args if isinstance(each, ast.Constant) and type(each.value) is str)


def _name(node: ast.expr) -> str | None:
    """The last part of a dotted name."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def files_of(package: str, child: str) -> list[Path]:
    """The source files of a package's child."""
    path = folder_of(package) / child
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def taken_from_outside(package: str) -> frozenset[str]:
    """The names in a package and below it that the rest of the product imports, without modules."""
    found = set()
    for path in _all_files():
        if not path.is_relative_to(folder_of(package)):
            for name in imported(path):
                module, _, last = name.rpartition(".")
                if f"{module}.".startswith(f"{package}.") and not _is_module(name):
                    found.add(last)
    return frozenset(found)


@cache
def _all_files() -> tuple[Path, ...]:
    return tuple(each for folder in FOLDERS.values() for each in folder.rglob("*.py"))


@cache
def _is_module(name: str) -> bool:
    return folder_of(name).is_dir() or folder_of(name).with_suffix(".py").exists()


@cache
def edges(package: str) -> frozenset[tuple[str, str]]:
    """Which children of a package import which others."""
    found = set()
    names = children(package)
    for child in names:
        for path in files_of(package, child):
            for name in imported(path):
                other = name.removeprefix(f"{package}.").split(".")[0] if name.startswith(f"{package}.") else None
                if other in names and other != child:
                    found.add((child, other))
    return frozenset(found)


def outside(package: str) -> set[str]:
    """The other packages of the same top level that a package imports; of another top level, that."""
    top = package.split(".", maxsplit=1)[0]
    found = set()
    for path in folder_of(package).rglob("*.py"):
        for name in imported(path):
            first, *rest = name.split(".")
            if first in FOLDERS and first != top:
                found.add(first)
            elif first == top and rest and package != top and not f"{name}.".startswith(f"{package}."):
                found.add(rest[0])
    return found - {package.split(".")[1]} if package != top else found
