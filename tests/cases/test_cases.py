"""Every public case is covered by a test whose name and mark say so, or is listed as open."""

import ast
from collections.abc import Iterator
from pathlib import Path

import yaml

HERE = Path(__file__).parent
TESTS = HERE.parent
# Cases that still give the wrong answer: each leaves this list with the test that shows it right.
OPEN: set[str] = set()


def cases() -> list[str]:
    """The ids of all cases."""
    return [case["id"] for case in yaml.safe_load((HERE / "public.yaml").read_text())]


def covered() -> Iterator[str]:
    """The ids in `@pytest.mark.case(...)` of every test named `test_public_case...`."""
    for source in map(Path.read_text, TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(source)) if "def test_public_case" in source else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_public_case"):
                found = [ids for each in node.decorator_list for ids in _ids(each)]
                assert found, f"{node.name} has no @pytest.mark.case"
                yield from found


def _ids(decorator: ast.expr) -> list[str]:
    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.case":
        return [ast.literal_eval(argument) for argument in decorator.args]
    return []


def test_each_case_has_its_test_or_is_open() -> None:
    tested = set(covered())
    assert tested | OPEN == set(cases())
    assert not tested & OPEN
