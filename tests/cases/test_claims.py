"""Every claim of SECURITY.md is shown by a test whose mark names it, and no mark names another."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]


def claims() -> list[str]:
    """The names of the claims in the table."""
    text = (TESTS.parent / "SECURITY.md").read_text()
    table = text.split("| claim | what it says |")[1].split("\n\n")[0]
    return re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)


def marked() -> Iterator[str]:
    """The names in `@pytest.mark.claim(...)` of all tests."""
    for path in TESTS.rglob("test_*.py"):
        source = path.read_text()
        for node in ast.walk(ast.parse(source)) if "mark.claim" in source else ():
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for each in node.decorator_list:
                    if isinstance(each, ast.Call) and ast.unparse(each.func) == "pytest.mark.claim":
                        assert node.name.startswith("test_"), f"{path.name}::{node.name} is no test"
                        yield from (ast.literal_eval(argument) for argument in each.args)


def test_each_claim_is_tested() -> None:
    told = claims()
    assert len(told) == len(set(told)) > 10
    assert set(marked()) == set(told)
