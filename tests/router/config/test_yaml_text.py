"""YAML is read to a bounded depth."""

import pytest

from router.config.yaml_text import MAX_DEPTH, load_yaml


def test_depth() -> None:
    assert load_yaml("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None
    for bracket in ("[", "{a: ", "- "):
        with pytest.raises(RecursionError):
            load_yaml(bracket * (MAX_DEPTH + 1))
    with pytest.raises(RecursionError):
        load_yaml("[[[]]]", max_depth=2)


def test_plain_types() -> None:
    assert load_yaml("{a: [1, 2.5, true, null, text], b: *x}".replace("a:", "a: &x")) == {
        "a": [1, 2.5, True, None, "text"],
        "b": [1, 2.5, True, None, "text"],
    }
