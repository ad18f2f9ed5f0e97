"""The page of any trace is whole, harmless and needs nothing from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.timeline import page
from router.timeline.__main__ import main
from router.timeline.axis import Axis
from router.timeline.formatting import fit, seconds, width
from router.timeline.lanes import MARK_FONT, MARK_RADIUS, MIN_PLOT_WIDTH, groups
from router.timeline.page import CSP
from router.timeline.record import read_run
from router.timeline.spans import rows
from tests.router.timeline import traces
from tests.router.timeline.strategies import any_run

VOID = {"meta", "link", "br", "img", "input", "hr"}
LINKS = {"src", "href", "xlink:href", "srcset", "action", "formaction", "data", "poster", "background"}


class Page(HTMLParser):
    """What a browser would see: elements in balance, their attributes, the text of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: dict[str, str] = {"script": "", "style": ""}
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.raw:
            self.raw[self.open[-1]] += data
        else:
            self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        """Attributes of the elements with that tag and these classes."""
        found = [given for name, given in self.tags if name == tag]
        return [a for a in found if all(value in (a.get(key) or "").split() for key, value in attributes.items())]


EMPTY = Page(page(traces.run([], 1.0)))


@any_run
def test_any_run_has_a_whole_and_closed_page(run: traces.Json) -> None:
    html = page(run)
    html.encode()
    seen = Page(html)
    assert len(seen.all("details")) == len(run["agents"])
    for tag, attributes in seen.tags:
        assert tag not in {"img", "iframe", "object", "embed", "link", "base", "form", "b", "image", "foreignobject"}
        assert not [name for name in attributes if name.startswith("on")]
        for name in LINKS & set(attributes):
            assert (attributes[name] or "").startswith("#"), (tag, attributes)
        if tag == "meta":
            assert attributes.get("http-equiv") in (None, "Content-Security-Policy")
    # What a run says is neither code nor style: both are the same on every page.
    assert seen.raw == EMPTY.raw
    assert not re.search(r"url\((?!#)|@import|https?:|fetch|XMLHttp", "".join(EMPTY.raw.values()))


@any_run
def test_bars_lie_side_by_side_inside_the_plot(run: traces.Json) -> None:
    record = read_run(run)
    lines = rows(record)
    total = max([1e-6, record.seconds, *(span.end for line in lines for span in line.spans)])
    for group in groups(record, lines, Axis(total)):
        for line in group.lines:
            ends = 0.0
            for bar in line.bars:
                assert bar.width >= 0
                assert bar.x >= ends - 1e-3
                ends = bar.x + bar.width
            assert ends <= 100 + 1e-3


@settings(deadline=None)
@given(st.lists(st.floats(0, 30), max_size=8), st.booleans())
def test_labels_of_decisions_never_touch(times: list[float], exits: bool) -> None:
    made = [traces.decision("c", at, ["a"], quality=0.5, draw=0.4, exits=exits) for at in times]
    record = read_run(traces.run([traces.ran("a", "c", 0, (0, 1, 2, 30))], 30, decisions=made))
    taken: list[tuple[float, float]] = []
    for mark in groups(record, rows(record), Axis(30.0))[0].marks:
        spot = mark.x * MIN_PLOT_WIDTH / 100
        long = width(mark.label, MARK_FONT) + MARK_RADIUS + 4
        if mark.anchor:
            low, high = (
                (spot + MARK_RADIUS, spot + long) if mark.anchor == "start" else (spot - long, spot - MARK_RADIUS)
            )
            assert low >= 0
            assert high <= MIN_PLOT_WIDTH
            assert all(high <= other_low or low >= other_high for other_low, other_high in taken)
            taken.append((low, high))


@settings(deadline=None)
@given(st.floats(1e-6, 1e9))
def test_the_axis_has_a_few_round_times(total: float) -> None:
    ticks = Axis(total).ticks()
    assert 2 <= len(ticks) <= 10
    assert ticks[0].at == 0
    assert all(0 <= tick.at <= 100 for tick in ticks)
    assert len({tick.label for tick in ticks}) == len(ticks)


@settings(deadline=None)
@given(st.text(max_size=100), st.floats(30, 200))
def test_names_are_cut_to_their_room(name: str, room: float) -> None:
    cut = fit(name, 12, room)
    assert width(cut, 12) <= room
    assert cut == name or width(name, 12) > room


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "\u2013"), (0.0, "0 s"), (0.0834, "83 ms"), (0.9999, "1.00 s"), (9.999, "10.0 s"), (119.7, "2 min 00 s")],
)
def test_seconds_are_short(value: float | None, words: str) -> None:
    assert seconds(value) == words


def test_the_page_forbids_itself_everything_else() -> None:
    policy = [a["content"] for a in EMPTY.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy == [CSP]
    assert CSP.startswith("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'")


@pytest.mark.claim("pages-run-nothing")
def test_hostile_texts_are_shown_as_they_are() -> None:
    seen = Page(page(traces.wordy()))
    shown = traces.HOSTILE.replace("\ud800", "?").replace("\0", "")
    assert seen.text.replace("\0", "").replace("\ufffd", "").count(shown) > 50


def test_everything_of_an_early_exit_is_on_the_page() -> None:
    seen = Page(page(traces.early_exit()))
    assert len(seen.all("details", **{"class": "aborted"})) == 2
    assert seen.text.count("never sent") >= 2
    assert len(seen.all("path", **{"class": "exit"})) == 1 + 3
    for words in ("exit 0.93", "q_draw", "go on", "10 of 13", "proposers-1: go on at 9.62 s"):
        assert words in seen.text


def test_who_was_not_prefilled_ahead_and_why_is_on_the_page() -> None:
    run = traces.finished()
    run["agents"][-1]["speculation"] = {"used": 0, "reason": "plain server"}
    text = re.sub(r"\s+", " ", Page(page(run)).text)
    assert f"Not prefilled ahead1 of {len(run['agents'])} plain server" in text
    assert "Prefilled ahead0 plain server" in text
    assert "Not prefilled ahead" not in Page(page(traces.finished())).text


def saved(path: Path, value: Any) -> Path:
    path.write_bytes(value if isinstance(value, bytes) else orjson.dumps(value))
    return path


def test_the_command_writes_both_files(tmp_path: Path) -> None:
    run = saved(tmp_path / "run.json", traces.finished())
    assert main([str(run), "--out", str(tmp_path / "p.html"), "--chrome", str(tmp_path / "t.json")]) == 0
    assert (tmp_path / "p.html").read_text(encoding="utf-8") == page(traces.finished())
    assert orjson.loads((tmp_path / "t.json").read_bytes())["displayTimeUnit"] == "ms"


@pytest.mark.parametrize(("content", "words"), [(b"{", "is no JSON"), ([], "no JSON object"), ({}, "wrong at run")])
def test_the_command_says_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any, words: str
) -> None:
    assert main([str(saved(tmp_path / "run.json", content))]) == 1
    assert words in capsys.readouterr().err
    assert not (tmp_path / "run.html").exists()


def test_the_command_says_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.json")]) == 1
    assert "cannot be read (No such file or directory)" in capsys.readouterr().err
