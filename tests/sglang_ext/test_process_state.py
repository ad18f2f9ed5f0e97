"""What the overlay keeps in a process is found by its class."""

from typing import Any

import pytest

from sglang_ext.process_state import ProcessState


class First:
    pass


class Second:
    pass


def test_a_part_is_found_by_its_class() -> None:
    state, first, second = ProcessState(), First(), Second()
    state.keep(first, second)
    assert (state.get(First), state.find(Second)) == (first, second)
    state.keep(later := First())
    assert (state.get(First), state.get(Second)) == (later, second)


def test_a_part_that_is_not_there() -> None:
    state: Any = ProcessState()
    assert state.find(First) is None
    with pytest.raises(AssertionError, match=r"^First is used before it is installed"):
        state.get(First)
