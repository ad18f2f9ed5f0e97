"""Regular expressions of clients: what the scheduler can search for, and what would keep it from everybody else."""

import pytest

from sglang_ext.fixes.patterns import check_pattern

REFUSED = {
    "(": "no regular expression",
    "[z-a]": "no regular expression",
    "(a+)+$": "repeats a part that itself repeats",
    "(a|a)*": "repeats alternatives",
    "((ab)*c)*": "repeats a part that itself repeats",
    "(.*)*": "repeats a part that itself repeats",
    "(a?){9}": "repeats a part that itself repeats",
    r"(a)\1": "refers back to a group",
    "a{5000}": "more than 1000 times",
    "a" * 1001: "at most 1000 characters",
    ".*.*.*.*x": "more than 3",
}


@pytest.mark.parametrize("pattern", REFUSED, ids=lambda each: each[:12])
def test_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=f"^`stop_regex` .*({REFUSED[pattern]})"):
        check_pattern("stop_regex", pattern)


TAKEN = ["", "a", r"\n\n+", r"\d{1,3}(st|nd|rd|th)?", "(yes|no)", r"(\d{3}-){2}", r"end\.$", "(a?b)?", "[^x]*x"]


@pytest.mark.parametrize("pattern", TAKEN)
def test_taken(pattern: str) -> None:
    check_pattern("stop_regex", pattern)
