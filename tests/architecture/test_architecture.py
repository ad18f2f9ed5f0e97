"""The house rules: imports go one way, files stay small, and every package's README shows what the code has."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.architecture.imports import (
    FOLDERS,
    ROOT,
    children,
    edges,
    files_of,
    folder_of,
    imported,
    nodes_of,
    outside,
    packages,
    taken_from_outside,
)
from tests.architecture.pictures import arrows_of, drawn, said_imports

MAX_LINES = 400
PACKAGES = [package for top in FOLDERS for package in packages(top)]
TOLD = [package for package in PACKAGES if (folder_of(package) / "README.md").exists()]
FILES = [path for folder in FOLDERS.values() for path in sorted(folder.rglob("*.py"))]
# `lint-imports` without its own start-up script, which knows where one environment is.
CONTRACTS = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


def contracts(root: Path) -> subprocess.CompletedProcess[str]:
    """What the import contracts of a tree say."""
    command = [sys.executable, "-c", CONTRACTS, "--no-cache"]
    paths = f"{root}:{root / 'kernels'}"
    return subprocess.run(
        command, cwd=root, env={"PYTHONPATH": paths, "PATH": ""}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product's source."""
    root = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", root)
    for folder in FOLDERS.values():
        shutil.copytree(folder, root / folder.relative_to(ROOT), ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("router/http/sse.py", "import router.server.app"),
        ("router/errors.py", "def late() -> None:\n    from router.workers import worker"),
        ("router/workers/worker.py", "if TYPE_CHECKING:\n    from router.dispatch.dispatcher import Dispatcher"),
        ("router/early_exit/rules.py", "from router.speculative_prefill import pacing"),
        ("router/dispatch/exchange.py", "from router.forwarding import forwarder"),
        ("sglang_ext/__init__.py", "import router"),
        ("sglang_ext/upstream/cache.py", "def late() -> None:\n    from sglang_ext.open_prompt import pins"),
        ("launch/planning/plan.py", "import launch.supervision.supervisor"),
        ("kernels/qmetric/ops.py", "import qmetric.api"),
    ],
)
def test_a_wrong_import_breaks_a_contract(tree: Path, module: str, line: str) -> None:
    path = tree / module
    before = path.read_text()
    path.write_text(f"{before}\n\n{line}\n")
    try:
        done = contracts(tree)
    finally:
        path.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    importer = ".".join(Path(module.removeprefix("kernels/")).with_suffix("").parts).removesuffix(".__init__")
    assert f"- {importer} -> " in done.stdout, "broken, but by another import"


@pytest.mark.slow
def test_the_contracts_are_kept() -> None:
    done = contracts(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_router_has_no_loose_modules() -> None:
    assert {path.name for path in (ROOT / "router").glob("*.py")} == {"__init__.py", "__main__.py", "errors.py"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_has_no_circle(package: str) -> None:
    graph: dict[str, set[str]] = {name: set() for name in children(package)}
    for importer, other in edges(package):
        graph[importer].add(other)
    # `__init__` imports modules, and modules may take what is in it.
    init = imported(folder_of(package) / "__init__.py")
    graph["__init__"] = {name for name in graph if f"{package}.{name}" in init}
    for name in children(package):
        if any(package in _from_imports(path) for path in files_of(package, name)):
            graph[name].add("__init__")
    TopologicalSorter(graph).prepare()  # raises CycleError


@cache
def _from_imports(path: Path) -> frozenset[str]:
    """Packages of which a file imports names that are no modules, and relative ones as `.`."""
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            known = module.split(".")[0] in FOLDERS and folder_of(module).is_dir()
            names = {each.name for each in node.names}
            if node.level or (known and not names <= set(children(module))):
                found.add(module or ".")
    return frozenset(found)


def test_no_file_is_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in FILES}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}


def private_names(nodes: Collection[ast.AST]) -> set[str]:
    """What a file takes of other modules' private names: by import, or as an attribute of a module it imports."""
    names, modules = set(), set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in FOLDERS:
            names |= {f"{node.module}.{each.name}" for each in node.names}
            modules |= {each.asname or each.name for each in node.names if not each.name[0].isupper()}
        elif isinstance(node, ast.Import):
            ours = [each for each in node.names if each.name.split(".")[0] in FOLDERS]
            names |= {each.name for each in ours}
            modules |= {each.asname or each.name for each in ours}
    private = {name for name in names if any(part[0] == "_" and part[:2] != "__" for part in name.split("."))}
    attributes = (
        node
        for node in nodes
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})  # most, and slow to unparse
    )
    return private | {
        ast.unparse(node) for node in attributes if ast.unparse(node.value) in modules and node.attr[:2] != "__"
    }


@cache
def private_attributes(path: Path) -> frozenset[str]:
    """The private names that the classes and functions of a file define."""
    found = set()
    for node in nodes_of(path):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}:
            found.add(node.attr)
    return frozenset(name for name in found if name[0] == "_" and name[:2] != "__")


def test_no_private_attribute_of_another_modules_objects_is_used() -> None:
    """By name, since what an object is of cannot be read off. The Protocols of `upstream` have SGLang's names."""
    ours = [path for path in FILES if folder_of("sglang_ext.upstream") not in path.parents]
    everywhere = {name for path in ours for name in private_attributes(path)}
    taken = {
        f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)}"
        for path in FILES
        for foreign in (everywhere - private_attributes(path),)
        for node in nodes_of(path)
        if isinstance(node, ast.Attribute) and node.attr in foreign and ast.unparse(node.value) != "os"
    }
    assert taken == set()


def test_nothing_private_is_taken_from_another_module() -> None:
    assert {str(path.relative_to(ROOT)): private_names(nodes_of(path)) for path in FILES} == {
        str(path.relative_to(ROOT)): set() for path in FILES
    }


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from router.early_exit.rules import _exit", "router.early_exit.rules._exit"),
        ("from router.early_exit._rules import Criterion", "router.early_exit._rules.Criterion"),
        ("from router.early_exit import rules\nrules._exit()", "rules._exit"),
        ("def late() -> None:\n    import router.early_exit.rules as r\n    r._exit()", "r._exit"),
        ("import router.early_exit.rules\nrouter.early_exit.rules._exit()", "router.early_exit.rules._exit"),
    ],
)
def test_private_names_are_found(source: str, name: str) -> None:
    assert private_names([*ast.walk(ast.parse(source))]) == {name}


def test_the_product_imports_no_tests() -> None:
    assert [str(path) for path in FILES if any(name.split(".")[0] == "tests" for name in imported(path))] == []


def test_the_packages_of_the_product_have_readmes() -> None:
    assert set(PACKAGES) - set(TOLD) == set()


@pytest.mark.parametrize("package", TOLD)
def test_a_readme_says_what_to_open(package: str) -> None:
    text = (folder_of(package) / "README.md").read_text()
    assert len(re.findall(r"^\| to change \| open \|\n\|---\|---\|\n\| .* \| .* \|$", text, re.MULTILINE)) == 1


# The Protocols of `upstream` bear the names of SGLang's classes, which its README need not repeat.
@pytest.mark.parametrize("package", [each for each in TOLD if each.count(".") == 1 and each != "sglang_ext.upstream"])
def test_a_readme_has_the_names_that_others_import(package: str) -> None:
    text = "\n".join(path.read_text() for path in folder_of(package).rglob("README.md"))
    assert {name for name in taken_from_outside(package) if not re.search(rf"\b{name}\b", text)} == set()


@pytest.mark.parametrize("package", TOLD)
def test_a_readme_shows_the_real_imports(package: str) -> None:
    text = (folder_of(package) / "README.md").read_text()
    picture = drawn(text)
    assert picture is not None, f"{package} has no picture: python -m tests.architecture.pictures {package}"
    arrows, alone = picture
    assert arrows == arrows_of(package)
    assert alone == {name for name in children(package) if not any(name in arrow for arrow in edges(package))}
    assert said_imports(text) == outside(package)


def test_imports_are_read_off_correctly() -> None:
    """What the checks above stand on: a plain import, one inside a function, one for types alone, one by name."""
    names = set(imported(ROOT / "router" / "http" / "client_request.py"))
    assert "router.http.asgi" in names
    assert "router.observability.tracing.request_span" in names, "imported for types alone"
    assert "router.timeline.page" in set(imported(ROOT / "router" / "endpoints" / "runs.py")), "inside a function"
    by_name = set(imported(ROOT / "router" / "server" / "connections" / "uvicorn_import.py"))
    assert {"uvicorn", "uvicorn.main"} <= by_name, "by name"
