"""The quick tests: none is left out, none runs twice, and what failed is told."""

from pathlib import Path

import pytest

from tests import quick
from tests.conftest import SLOW

TESTS = Path(__file__).parent


def test_every_module_is_in_one_group_and_no_end_to_end_test_is() -> None:
    paths = [quick.ROOT / path for group in quick.groups() for path in group]
    for module in TESTS.rglob("test_*.py"):
        containing = [path for path in paths if path in (module, *module.parents)]
        assert len(containing) == (0 if TESTS / "e2e" in module.parents else 1), module


def test_every_slow_module_is_there() -> None:
    assert [path for path in SLOW if not (TESTS / path).is_file()] == []


@pytest.mark.parametrize(
    ("summary", "counts"),
    [
        ("430 passed, 68 subtests passed in 13.73s", {"passed": 430, "subtests passed": 68}),
        (
            "=== 1 failed, 572 passed, 1 deselected in 69.74s (0:01:09) ===",
            {"failed": 1, "passed": 572, "deselected": 1},
        ),
        ("3 deselected in 0.44s", {"deselected": 3}),
        ("no tests ran in 0.10s", {}),
        ("Killed", {}),
    ],
)
def test_the_last_line_is_read(summary: str, counts: dict[str, int]) -> None:
    assert quick.Done((), 0, 1.0, f"...  [100%]\n{summary}\n").counts == counts


def test_what_failed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (("good", "def test_it():\n    pass\n"), ("bad", "def test_it():\n    assert not 'this'\n")):
        (tmp_path / f"test_{name}.py").write_text(text)
    modules = [(str(tmp_path / f"test_{name}.py"),) for name in ("good", "bad")]
    monkeypatch.setattr(quick, "groups", lambda: modules)
    monkeypatch.setattr(
        quick, "OPTIONS", ("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-o", "addopts=")
    )
    assert quick.main([]) == 1
    told = capsys.readouterr().out
    assert "assert not 'this'" in told
    assert told.splitlines()[-1].startswith("FAILED: 1 passed, 1 failed in") or "1 failed, 1 passed in" in told
