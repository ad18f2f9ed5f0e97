"""What tests may not do: assert that something took less than a time, since a slow machine must fail none."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.architecture.imports import ROOT

CLOCKS = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "time", "time_ns"}
TIMEOUTS = {"asyncio.timeout", "asyncio.wait_for"}
PATIENCE = 30  # seconds: a time limit of a test that is shorter is scaled, as those of `tests.router.support.aio` are
SEEN = re.compile(rf"\b({'|'.join(CLOCKS)})\(|asyncio\.(timeout|wait_for)\(")


def hurries(source: str) -> list[int]:
    """The lines that fail on a slow machine.

    They assert that less than some time has passed, as in `assert clock() - began < seconds`, also through a variable
    and in a chain of comparisons; or they limit something to a literal number of seconds below `PATIENCE`.
    """
    if not SEEN.search(source):
        return []
    tree = ast.parse(source)
    return sorted({*_bounded(tree), *_limited(tree)})


def _bounded(tree: ast.AST) -> Iterator[int]:
    passed = {
        name.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None and _elapsed(node.value, set())
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    }
    for asserted in (node for node in ast.walk(tree) if isinstance(node, ast.Assert)):
        for node in ast.walk(asserted.test):
            if isinstance(node, ast.Compare) and any(_elapsed(each, passed) for each in _smaller(node)):
                yield asserted.lineno


def _smaller(compared: ast.Compare) -> Iterator[ast.AST]:
    """The sides of a chain that are to be the smaller ones."""
    operands = [compared.left, *compared.comparators]
    for left, operator, right in zip(operands, compared.ops, operands[1:], strict=False):
        if isinstance(operator, ast.Lt | ast.LtE):
            yield left
        elif isinstance(operator, ast.Gt | ast.GtE):
            yield right


def _elapsed(node: ast.AST, passed: set[str]) -> bool:
    """Whether an expression has a difference to a clock's reading, or a variable that was given one."""
    differences = [each for each in ast.walk(node) if isinstance(each, ast.BinOp) and isinstance(each.op, ast.Sub)]
    clocks = [call for each in differences for call in ast.walk(each) if isinstance(call, ast.Call)]
    names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
    return bool(names & passed) or any(ast.unparse(call.func).split(".")[-1] in CLOCKS for call in clocks)


def _limited(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in TIMEOUTS:
            seconds = [*node.args[-1:], *(each.value for each in node.keywords if each.arg == "timeout")]
            numbers = [each.value for each in seconds if isinstance(each, ast.Constant)]
            if any(isinstance(number, int | float) and number < PATIENCE for number in numbers):
                yield node.lineno


def test_no_test_asserts_that_something_was_quick() -> None:
    found = {path: hurries(path.read_text()) for path in (ROOT / "tests").rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("clock", ["time.monotonic()", "perf_counter()", "asyncio.get_running_loop().time()"])
@pytest.mark.parametrize(
    "assertion",
    [
        "assert {clock} - began < 5",
        "assert abs({clock} - began) <= 5",
        "assert 0 < {clock} - began < 5",
        "assert 5 > {clock} - began",
        "assert works() and {clock} - began < 5",
    ],
)
def test_such_assertions_are_found(clock: str, assertion: str) -> None:
    assert hurries(f"def test() -> None:\n    {assertion.format(clock=clock)}") == [2]


def test_they_are_found_through_a_variable() -> None:
    assert hurries("def test() -> None:\n    took = time.monotonic() - began\n    assert took < 5") == [3]
    assert hurries("def test() -> None:\n    took = time.monotonic() - began\n    assert took >= 5") == []


def test_a_time_limit_is_long_or_scaled() -> None:
    assert hurries("asyncio.timeout(5)\nasyncio.wait_for(work(), 0.5)\nasyncio.wait_for(work(), timeout=1)") == [
        1,
        2,
        3,
    ]
    assert hurries("asyncio.timeout(60)\nasyncio.timeout(SLOW * 5)\nasyncio.wait_for(work(), 30)") == []


@pytest.mark.parametrize("clock", ["time.monotonic()", "perf_counter()"])
def test_deadlines_and_lower_bounds_are_none(clock: str) -> None:
    assert hurries(f"assert {clock} < deadline\nassert {clock} - began >= 5\nassert 5 <= {clock} - began") == []
