"""What came of the peers' tests, as a table, and whether it is enough."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

Outcome = Literal["passed", "failed", "skipped"]
REASONS = Path(__file__).parent / "reasons.toml"
OTHER = "other"  # the name of the reason of tests that are not named


@dataclass(frozen=True)
class Result:
    """One test: the suite's name, its own, what came of it, and the last line of what pytest says of a failure."""

    suite: str
    test: str
    outcome: Outcome
    message: str = ""


def read_results(report: Path, suite: str) -> list[Result]:
    """The results in a file of pytest's `--junitxml`."""
    return [_result(case, suite) for case in ElementTree.parse(report).iter("testcase")]


def _result(case: ElementTree.Element, suite: str) -> Result:
    classes = case.get("classname", "").split(".")
    shown = [name for name in classes if name.startswith(("test_", "Test"))]
    test = "::".join([*shown, case.get("name", "")])
    for kind in ("failure", "error"):
        found = case.find(kind)
        if found is not None:
            lines = found.get("message", "").strip().splitlines()
            return Result(suite, test, "failed", lines[0] if lines else kind)
    return Result(suite, test, "passed" if case.find("skipped") is None else "skipped")


def known_reasons(path: Path = REASONS, *, as_is: bool) -> dict[str, str]:
    """Why tests stay failed, by their names.

    Args:
        path: The file.
        as_is: Whether to add the reasons of tests that fail only while their mock answers as it does.
    """
    tables = tomllib.loads(path.read_text())
    return {**tables["always"], **(tables["as-is"] if as_is else {})}


def table(results: Sequence[Result], reasons: Mapping[str, str]) -> list[str]:
    """A line a test, the failed with their reasons, then the sums."""
    lines = []
    for suite in dict.fromkeys(result.suite for result in results):
        lines.append(suite)
        for result in results:
            if result.suite != suite:
                continue
            if result.outcome == "failed":
                other = f"{reasons.get(OTHER, 'NO REASON IS KNOWN')}: {result.message}"
                words = reasons.get(result.test, other)
            else:
                words = "it is listed as failed; remove its reason" if result.test in reasons else ""
            lines.append(f"  {result.outcome:<8} {result.test}{f': {words}' if words else ''}")
    passed, failed = (sum(result.outcome == kind for result in results) for kind in ("passed", "failed"))
    return [*lines, f"{passed} passed, {failed} failed, {len(results) - passed - failed} skipped"]


def enough(results: Sequence[Result], bar: int) -> bool:
    """Whether at least `bar` tests passed."""
    return sum(result.outcome == "passed" for result in results) >= bar
