"""What tests may not do: assert that something took less than a time, since a slow machine must fail none."""

import ast
import re

import pytest

from tests.architecture.imports import ROOT

CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns"}
CALLED = re.compile(rf"\b({'|'.join(CLOCKS)})\(")


def hurries(source: str) -> list[int]:
    """The lines with an assertion that less than some time has passed: `assert clock() - began < seconds`."""
    if not CALLED.search(source):
        return []
    compared = [node.test for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Assert)]
    return [
        test.lineno
        for test in compared
        if isinstance(test, ast.Compare)
        and isinstance(test.ops[0], ast.Lt | ast.LtE)
        and isinstance(test.left, ast.BinOp)
        and isinstance(test.left.op, ast.Sub)
        and isinstance(test.left.left, ast.Call)
        and ast.unparse(test.left.left.func).split(".")[-1] in CLOCKS
    ]


def test_no_test_asserts_that_something_was_quick() -> None:
    found = {path: hurries(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("clock", ["time.monotonic()", "perf_counter()", "asyncio.get_running_loop().time()"])
def test_such_assertions_are_found(clock: str) -> None:
    assert hurries(f"def test() -> None:\n    assert {clock} - began < 5") == [2]
    assert hurries(f"assert {clock} < deadline\nassert {clock} - began >= 5") == []
