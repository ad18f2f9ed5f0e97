"""For the router's tests: hundreds of routers start in one process, where a user's process starts one."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest import mock

import pytest

from router.moa.tree_files import Trees, load_trees
from router.server.components import runs


@pytest.fixture(scope="session", autouse=True)
def _default_tree_is_read_once() -> Iterator[None]:
    """Parsing its YAML takes longer than the rest of such a start."""
    default = cache(lambda: load_trees(None))

    def load(path: Path | None) -> Trees:
        return default() if path is None else load_trees(path)

    with mock.patch.object(runs, "load_trees", load):
        yield
