"""Every flag, path and metric of the peers is there, or refused or absent with its reason."""

import re
from itertools import chain

import pytest

from router.cli.ignored_flags import IGNORED_FLAGS
from router.cli.parser import build_parser, parse
from router.cli.refused_flags import REFUSED_FLAGS
from router.endpoints.not_offered import PATHS_NOT_OFFERED
from router.parity.__main__ import BEGIN, DOCUMENT, END, main
from router.parity.absent_metrics import ABSENT_METRICS
from router.parity.differences import FLAGS, METRICS, PATHS
from router.parity.markdown import comparison, our_flags
from router.parity.peers import PEERS, PeerName, load_peer

PAIR = ["--pd-disaggregation", "--prefill", "http://127.0.0.1:1", "8998", "--decode", "http://127.0.0.1:2"]
STORED = {name: load_peer(name) for name in PEERS}
OURS = our_flags()
PARSER = build_parser()


def test_the_readme_has_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    told = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    assert told == capsys.readouterr().out == comparison(STORED), "run python -m router.parity --write"
    assert len(STORED["sglang-router"].flags) > 90
    assert len(STORED["smg"].flags) > 200


@pytest.mark.parametrize("peer", PEERS)
def test_every_flag_is_the_same_or_explained(peer: PeerName) -> None:
    for name, theirs in STORED[peer].flags.items():
        ours = OURS.get(name)
        if ours is None:
            assert name in REFUSED_FLAGS
            continue
        default = ours.default if ours.default not in ((), []) else []
        choices = None if ours.choices is None else list(ours.choices)
        same = (theirs["default"] or []) == (default or []) and sorted(theirs["choices"] or []) == sorted(choices or [])
        explained = FLAGS.keys() | IGNORED_FLAGS.keys()
        assert same or name in explained, f"{name} is not the same here, and differences.py does not say so"


def test_a_refused_flag_says_why_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for name, reason in REFUSED_FLAGS.items():
        for value in ([], ["value"]):
            with pytest.raises(SystemExit) as exited:
                PARSER.parse_args([name, *value])
            assert exited.value.code == 2
            assert capsys.readouterr().err.endswith(f"error: {name} is not supported: {reason}.\n")


def test_an_ignored_flag_changes_nothing() -> None:
    values = {"--backend": ["vllm"]}
    given = [[name, *values.get(name, [] if OURS[name].nargs == 0 else ["1"])] for name in IGNORED_FLAGS]
    assert parse([*PAIR, *chain(*given)]) == parse(PAIR)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--max-paylod-size", "3"], "--max-paylod-size is no flag of this router; is --max-payload-size meant?"),
        (["--retry-max-retrys=3"], "--retry-max-retrys is no flag of this router; is --retry-max-retries meant?"),
        (["--router-policy", "random"], "--router-policy is no flag of this router; is --policy meant?"),
        (["--frobnicate"], "--frobnicate is no flag of this router; python -m router --help lists all."),
        (["launch"], "'launch' belongs to no flag; python -m router --help lists them."),
    ],
)
def test_an_unknown_flag_gets_a_sentence_with_a_hint(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        parse([*words, *PAIR])
    assert exited.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {sentence}\n")


def test_second_names_of_smg_are_the_same_settings() -> None:
    theirs = ["--cache-match-threshold", "0.5", "--spill-abs-threshold", "3", "--spill-rel-threshold", "2"]
    ours = ["--cache-threshold", "0.5", "--balance-abs-threshold", "3", "--balance-rel-threshold", "2"]
    assert parse([*PAIR, *theirs]) == parse([*PAIR, *ours])


def test_hints_name_flags_that_there_are() -> None:
    options = PARSER._option_string_actions.keys() | {"--served-model-name"}  # that one is of SGLang
    for reason in REFUSED_FLAGS.values():
        for named in re.findall(r"--[a-z0-9-]+", reason):
            assert named in options and named not in REFUSED_FLAGS, reason  # noqa: PT018


def test_nothing_is_explained_that_is_not_there() -> None:
    flags = {name for peer in STORED.values() for name in peer.flags}
    paths = {path for peer in STORED.values() for path in peer.paths}
    metrics = {name for peer in STORED.values() for name in peer.metrics}
    assert REFUSED_FLAGS.keys() <= flags
    assert IGNORED_FLAGS.keys() <= flags - REFUSED_FLAGS.keys()
    assert FLAGS.keys() <= flags - REFUSED_FLAGS.keys() - IGNORED_FLAGS.keys()
    assert PATHS_NOT_OFFERED.keys() <= paths
    assert PATHS.keys() <= paths - PATHS_NOT_OFFERED.keys()
    assert METRICS.keys() <= metrics - ABSENT_METRICS.keys()
    assert ABSENT_METRICS.keys() <= metrics


def test_every_reason_is_a_clause() -> None:
    ignored = (each.reason for each in IGNORED_FLAGS.values())
    reasons = (*ignored, *REFUSED_FLAGS.values(), *PATHS_NOT_OFFERED.values(), *ABSENT_METRICS.values())
    for reason in reasons:
        assert re.fullmatch(r"([a-z/]|Python).*[^.]", reason), reason
