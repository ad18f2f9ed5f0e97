"""Every flag and path of sglang-router is there, or refused with its reason; SGLANG_ROUTER.md says which."""

import re

import pytest

from router.cli.ignored_flags import IGNORED_FLAGS
from router.cli.parser import parse
from router.cli.refused_flags import REFUSED_FLAGS
from router.endpoints.not_offered import PATHS_NOT_OFFERED
from router.parity.__main__ import BEGIN, DOCUMENT, END, main
from router.parity.differences import ABSENT_METRICS, FLAGS, METRICS, PATHS
from router.parity.sglang_router import load_sglang_router
from router.parity.table import our_flags, table

PAIR = ["--pd-disaggregation", "--prefill", "http://127.0.0.1:1", "8998", "--decode", "http://127.0.0.1:2"]
STORED = load_sglang_router()


def test_the_readme_has_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    told = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    assert told == capsys.readouterr().out == table(STORED), "run python -m router.parity --write"
    assert len(STORED.flags) > 90


@pytest.mark.parametrize("name", STORED.flags)
def test_every_flag_is_accepted_or_refused_by_name(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, ours = STORED.flags[name], our_flags().get(name)
    if ours is None:
        with pytest.raises(SystemExit):
            parse([*PAIR, name, "value"])
        assert f"{name} is not supported: {REFUSED_FLAGS[name]}." in capsys.readouterr().err
        with pytest.raises(SystemExit):
            parse([*PAIR, name])
        return
    assert name not in REFUSED_FLAGS
    default = ours.default if ours.default not in ((), []) else []
    choices = None if ours.choices is None else list(ours.choices)
    same = (theirs["default"] or []) == (default or []) and sorted(theirs["choices"] or []) == sorted(choices or [])
    explained = FLAGS.keys() | IGNORED_FLAGS.keys()
    assert same or name in explained, f"{name} is not the same here, and differences.py does not say so"


def test_nothing_is_explained_that_is_not_there() -> None:
    assert REFUSED_FLAGS.keys() <= STORED.flags.keys()
    assert IGNORED_FLAGS.keys() <= STORED.flags.keys() - REFUSED_FLAGS.keys()
    assert FLAGS.keys() <= STORED.flags.keys() - REFUSED_FLAGS.keys() - IGNORED_FLAGS.keys()
    assert PATHS_NOT_OFFERED.keys() <= set(STORED.paths)
    assert PATHS.keys() <= set(STORED.paths) - PATHS_NOT_OFFERED.keys()
    assert METRICS.keys() <= STORED.metrics.keys() - ABSENT_METRICS.keys()
    assert ABSENT_METRICS.keys() <= STORED.metrics.keys()


def test_every_reason_is_a_clause() -> None:
    ignored = (each.reason for each in IGNORED_FLAGS.values())
    for reason in (*ignored, *REFUSED_FLAGS.values(), *PATHS_NOT_OFFERED.values()):
        assert re.fullmatch(r"[a-z/].*[^.]", reason), reason
