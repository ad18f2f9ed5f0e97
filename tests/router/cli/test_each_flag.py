"""Each flag changes its own setting and no other."""

import argparse
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from router.cli.ignored_flags import IGNORED_FLAGS
from router.cli.parser import build_parser, parse
from router.cli.refused_flags import REFUSED_FLAGS
from router.server.settings import RouterSettings

PAIR = ["--pd-disaggregation", "--prefill", "http://127.0.0.1:1", "2", "--decode", "http://127.0.0.1:3"]
# Flags that need others, or are no setting of their own.
ELSEWHERE = {
    "--help",
    "--pd-disaggregation",
    "--service-discovery",
    "--service-discovery-port",
    "--service-discovery-namespace",
    "--selector",
    "--prefill-selector",
    "--decode-selector",
}
VALUES: dict[str, list[str]] = {
    "--prefill": ["http://127.0.0.1:4", "5"],
    "--prometheus-duration-buckets": ["1", "2"],
    "--otlp-traces-endpoint": ["collector:4317"],
    "--worker-overload-token-usage": ["0.5"],
}


def settings(options: argparse.Action) -> list[str]:
    """The flag with a value that is not its default."""
    name = options.option_strings[0]
    if options.nargs == 0:
        return [name]
    if name in VALUES:
        return [name, *VALUES[name]]
    if options.choices:
        return [name, next(each for each in options.choices if each != options.default)]
    if options.type in (int, float):
        default = options.default if isinstance(options.default, int | float) else 0
        # A share is at most 1; of a count some values are taken by another flag's bounds.
        return [name, "0.75" if isinstance(default, float) and default < 1 else f"{default + 2}"]
    return [name, "/other" if str(options.default).startswith("/") else "other"]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting with its path."""
    if not dataclasses.is_dataclass(value):
        yield path, value
        return
    for each in dataclasses.fields(value):
        yield from leaves(getattr(value, each.name), f"{path}.{each.name}".lstrip("."))


FLAGS = [
    action
    for action in build_parser()._actions
    if not {*action.option_strings} & (ELSEWHERE | IGNORED_FLAGS.keys() | REFUSED_FLAGS.keys())
]


@pytest.mark.case("14.flag_collision")
@pytest.mark.parametrize("action", FLAGS, ids=lambda action: action.option_strings[0])
def test_public_case_a_flag_changes_its_own_setting(action: argparse.Action) -> None:
    before, after = dict(leaves(parse(PAIR))), dict(leaves(parse([*PAIR, *settings(action)])))
    assert len([path for path in before if before[path] != after[path]]) == 1


@pytest.mark.case("14.flag_collision")
def test_public_case_defaults_are_those_of_the_settings() -> None:
    parsed, documented = (
        parse(PAIR),
        RouterSettings(prefill=(("http://127.0.0.1:1", 2),), decode=("http://127.0.0.1:3",)),
    )
    assert parsed == documented
    assert parsed.health.timeout_secs == 5
    assert parsed.breaker.timeout_secs == 60
