"""Tests from rows of the release on GitHub, which have inputs and the right function instead of results.

The right function gives the results, in the sandbox, and they are compared as evalplus compares: equal, or of the same
type and close where the row has a tolerance or the results are floats. `find_zero` has many right results: what it
gives must be a zero of the polynomial.
"""

from launch.experiment.benchmarks.data import Row

_CHECK = """
import copy, math
import numpy as np

def _is_floats(x):
    return isinstance(x, float) or (isinstance(x, (list, tuple)) and bool(x) and all(isinstance(i, float) for i in x))

def _compare(given, expected, atol):
    if given is expected or given == expected:
        return
    atol = 1e-6 if atol == 0 and _is_floats(expected) else atol
    assert atol != 0 and type(given) is type(expected)
    if isinstance(expected, (list, tuple)):
        assert len(given) == len(expected)
    assert np.allclose(given, expected, rtol=1e-07, atol=atol)

def check(candidate):
    names = {{}}
    exec({reference!r}, names)
    for values in {inputs!r}:
        given = candidate(*copy.deepcopy(values))
        if {name!r} == "find_zero":
            assert abs(sum(each * math.pow(given, power) for power, each in enumerate(values[0]))) <= {atol!r}
        else:
            _compare(given, names[{name!r}](*copy.deepcopy(values)), {atol!r})
"""


def has_inputs(row: Row) -> bool:
    """Whether a row has the form of the release."""
    return row.get("test") is None and row.get("plus_input") is not None


def with_test(row: Row) -> Row:
    """The row with a test made of its inputs; `RowError` where they are no lists of arguments."""
    inputs = [*(row.get("base_input") or []), *row.get("plus_input")]
    if not inputs or not all(isinstance(each, list) for each in inputs):
        row.fail('has no lists of arguments under "base_input" and "plus_input"')
    atol = row.get("atol") or 0
    if not isinstance(atol, int | float):
        row.fail('has no number under "atol"')
    row.text("canonical_solution")
    reference = f"{row.values['prompt']}{row.values['canonical_solution']}"
    test = _CHECK.format(reference=reference, inputs=inputs, name=row.text("entry_point"), atol=atol)
    return Row({**row.values, "test": test}, row.file, row.number)
