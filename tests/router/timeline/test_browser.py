"""The page in a real Chromium: where things are, what a click shows, that nothing is asked of a network."""

from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import pytest

from router.timeline import page
from tests.router.timeline import traces
from tests.router.timeline.browser import Browser, NoBrowser, browser, find

# Everything that must be readable: no two of these may cover each other.
TEXTS = "h1, h2, .meta, .figures dt, .figures dd, .graph text, .lane text, .row > .label, .number, th, td, .legend li"
HALF = 0.5  # pixels that rounding may cost
SAMPLES = ("finished", "early_exit", "running", "failed", "wordy")
Rect = dict[str, Any]


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    try:
        with browser(tmp_path_factory.mktemp("chromium") / "profile") as opened:
            yield opened
    except NoBrowser as error:
        pytest.fail(str(error), pytrace=False)


@pytest.fixture
def chromium(tab: Browser) -> Iterator[Browser]:
    """Holds every test to: no error in the console, no request but for the page."""
    yield tab
    assert tab.problems == []
    assert [url.rpartition("/")[2] for url in tab.requests] == ["page.html"]


def shown(chromium: Browser, folder: Path, run: traces.Json, **how: Any) -> Path:
    path = folder / "page.html"
    path.write_text(page(run), encoding="utf-8")
    chromium.open(path, **how)
    return path


def boxes(chromium: Browser, selector: str, within: str = "document") -> list[Rect]:
    """Text, classes and bounding boxes (pixels of the page) of all elements that match and are painted."""
    found: list[Rect] = chromium.ask(
        f"[...{within}.querySelectorAll({selector!r})].filter(e => e.checkVisibility()).map(element => {{"
        "  const {left, right, top, bottom} = element.getBoundingClientRect();"
        "  return {text: element.textContent.trim(), kind: element.getAttribute('class') || '',"
        "    left: left + scrollX, right: right + scrollX, top: top + scrollY, bottom: bottom + scrollY};"
        "}).filter(box => box.right > box.left && box.bottom > box.top)"
    )
    return found


def apart(one: Rect, other: Rect) -> bool:
    beside: bool = one["right"] <= other["left"] + HALF or other["right"] <= one["left"] + HALF
    below: bool = one["bottom"] <= other["top"] + HALF or other["bottom"] <= one["top"] + HALF
    return beside or below


def covering(found: list[Rect]) -> list[tuple[str, str]]:
    """Pairs of texts that cover each other."""
    return [(one["text"], other["text"]) for one, other in combinations(found, 2) if not apart(one, other)]


@pytest.mark.parametrize("width", [800, 1280, 1920])
@pytest.mark.parametrize("sample", SAMPLES)
def test_no_text_covers_another_and_nothing_leaves_the_window(
    chromium: Browser, tmp_path: Path, sample: str, width: int
) -> None:
    shown(chromium, tmp_path, getattr(traces, sample)(), width=width)
    found = boxes(chromium, TEXTS)
    assert len(found) > 60
    assert covering(found) == []
    assert all(box["left"] >= 0 and box["right"] <= width for box in found)
    assert chromium.ask("document.documentElement.scrollWidth") <= width
    cut = "[...document.querySelectorAll('.label, .who')].filter(e => e.scrollWidth > e.clientWidth)"
    assert chromium.ask(f"{cut}.map(e => e.textContent)") == []


@pytest.mark.parametrize("sample", SAMPLES)
def test_names_of_agents_stay_in_their_nodes(chromium: Browser, tmp_path: Path, sample: str) -> None:
    shown(chromium, tmp_path, getattr(traces, sample)())
    nodes, names = boxes(chromium, ".node rect"), boxes(chromium, ".node text")
    assert len(nodes) == len(names) == 13
    for node, name in zip(nodes, names, strict=True):
        assert node["left"] < name["left"] < name["right"] <= node["right"]
        assert node["top"] <= name["top"] < name["bottom"] <= node["bottom"]
    assert covering(boxes(chromium, ".graph .box")) == []


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
@pytest.mark.parametrize("width", [800, 1280])
def test_every_agent_has_a_row_with_bars_at_their_times(
    chromium: Browser, tmp_path: Path, width: int, scripts: bool
) -> None:
    run = traces.finished()
    shown(chromium, tmp_path, run, width=width, scripts=scripts)
    rows = boxes(chromium, "summary")
    names = boxes(chromium, "summary .label")
    lanes = boxes(chromium, "summary .lane")
    assert [name["text"] for name in names] == [agent["agent"] for agent in run["agents"]]
    assert all(above["bottom"] <= below["top"] for above, below in pairwise(rows))
    for number, (agent, lane) in enumerate(zip(run["agents"], lanes, strict=True)):
        bars = boxes(chromium, "summary .bar", f"document.getElementById('agent-{number}')")
        at = [(bar["left"] - lane["left"]) / (lane["right"] - lane["left"]) * run["seconds"] for bar in bars]
        kinds = [bar["kind"] for bar in bars]
        assert kinds[-2:] == ["bar prefill", "bar decode"]
        assert kinds.count("bar speculative") == len(agent["segments"])
        assert at[-2:] == pytest.approx([agent["start"], agent["first_token"]], abs=0.05)
        assert all(one["right"] <= other["left"] + HALF for one, other in pairwise(bars))
        end = lane["left"] + agent["end"] / run["seconds"] * (lane["right"] - lane["left"])
        assert bars[-1]["right"] == pytest.approx(end, abs=1)
        assert names[number]["right"] <= lane["left"] <= bars[0]["left"] + HALF


def test_early_exit_shows_who_was_aborted_who_was_never_sent_and_why(chromium: Browser, tmp_path: Path) -> None:
    run = traces.early_exit()
    shown(chromium, tmp_path, run)
    assert len(boxes(chromium, "summary .bar.aborted")) == 2
    assert chromium.ask("getComputedStyle(document.querySelector('summary .bar.aborted')).fill") == 'url("#hatch")'
    skipped = "document.querySelector('details.skipped')"
    assert chromium.ask(f"{skipped}.querySelectorAll('.bar').length") == 0
    assert [note["text"] for note in boxes(chromium, ".note", skipped)] == ["never sent"]
    marks, lane = boxes(chromium, ".head .mark"), boxes(chromium, ".head .lane")[0]
    at = [((m["left"] + m["right"]) / 2 - lane["left"]) / (lane["right"] - lane["left"]) * 28.83 for m in marks]
    assert at == pytest.approx([9.62, 10.12, 9.92, 17.41], abs=0.05)
    assert ["exit" in mark["kind"] for mark in marks] == [False, True, True, True]
    assert [cell["text"] for cell in boxes(chromium, "tbody td:first-child")] == [
        decision["cluster"] for decision in sorted(run["decisions"], key=lambda decision: decision["at"])
    ]


def middle(chromium: Browser, element: str) -> tuple[float, float]:
    """Scroll to an element; where its middle is in the window."""
    where = chromium.ask(
        f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); "
        f"return [r.x + r.width / 2, r.y + r.height / 2]; }})({element})"
    )
    chromium.settle()
    return where[0], where[1]


def visible(chromium: Browser, words: str) -> bool:
    seen: bool = chromium.ask(f"document.body.innerText.includes({words!r})")
    return seen


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_click_on_an_agent_shows_its_answer_and_counts(chromium: Browser, tmp_path: Path, scripts: bool) -> None:
    shown(chromium, tmp_path, traces.finished(), scripts=scripts)
    answer = "Answer of aggregator-2."
    assert not visible(chromium, answer)
    chromium.mouse(*middle(chromium, "document.querySelector('#agent-10 .label')"), click=True)
    chromium.settle()
    assert visible(chromium, answer)
    panel = boxes(chromium, "#agent-10 dl > div")
    assert {"Modelsmollm2-a", "Prompt509 tokens", "Cached468 92% of prompt", "Used468 tokens"} <= {
        " ".join(fact["text"].split()) for fact in panel
    }
    assert covering(panel) == []
    assert all(box["top"] >= panel[0]["bottom"] for box in boxes(chromium, "#agent-11 summary"))


def test_a_click_on_a_node_of_the_tree_opens_the_row(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, traces.finished())
    for _ in range(2):
        chromium.mouse(*middle(chromium, "document.querySelector('.node[data-row=\"12\"]')"), click=True)
        chromium.settle()
        assert visible(chromium, "Answer of final.")
        assert chromium.ask("document.activeElement === document.querySelector('#agent-12 summary')")
        chromium.ask("document.getElementById('agent-12').open = false")


def test_pointer_and_keys_show_details_of_a_phase(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, traces.finished())
    tip = "document.getElementById('tip').innerText"
    chromium.mouse(*middle(chromium, "document.querySelector('#agent-9 .bar.decode')"))
    chromium.settle()
    assert chromium.ask(tip) == "aggregator-1: decode\n11.4 s to 18.3 s, 6.86 s long\n103 tokens"
    chromium.mouse(1, 1)
    assert chromium.ask("document.getElementById('tip').hidden")
    chromium.ask("document.querySelector('#agent-9 summary').focus()")
    for key in ("ArrowLeft", "ArrowLeft"):
        chromium.press(key)
    assert chromium.ask(tip).startswith("aggregator-1: prefill\n")
    chromium.press("Enter")
    assert visible(chromium, "Answer of aggregator-1.")


def test_a_decision_tells_its_scores(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, traces.early_exit())
    chromium.mouse(*middle(chromium, "document.querySelector('.head .mark.exit')"))
    chromium.settle()
    assert chromium.ask("document.getElementById('tip').innerText").splitlines() == [
        "proposers-2: exit at 10.1 s",
        "C 0.82 · P 0.91 · B 0.70 · Q 0.81 · u 0.55 · rule q_draw",
        "answers: proposer-21, proposer-22",
        "majority: 25",
    ]


@pytest.mark.claim("pages-run-nothing")
def test_hostile_answers_do_nothing(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, traces.wordy())
    chromium.mouse(*middle(chromium, "document.querySelector('#agent-0 .label')"), click=True)
    chromium.settle()
    assert visible(chromium, "<img src=x onerror=alert(1)>")
    assert chromium.ask("document.querySelectorAll('img, body script').length") == 1
    assert chromium.ask("document.documentElement.scrollWidth") == 1280


@pytest.mark.claim("pages-run-nothing")
def test_the_policy_of_the_page_stops_what_would_reach_out(chromium: Browser, tmp_path: Path) -> None:
    shown(chromium, tmp_path, traces.finished())
    tried = chromium.ask("fetch('http://127.0.0.1:9/').then(() => 'sent', error => error.message)")
    assert tried.startswith("Failed to fetch")
    assert any("Content Security Policy" in problem for problem in chromium.problems)
    chromium.problems.clear()


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_every_text_stands_out_from_its_ground(chromium: Browser, tmp_path: Path, sample: str, dark: bool) -> None:
    """WCAG's contrast of 4.5 for all text; screenshots are left in the test's folder."""
    shown(chromium, tmp_path, getattr(traces, sample)(), dark=dark)
    chromium.screenshot(tmp_path / f"{sample}-{'dark' if dark else 'light'}.png")
    assert (tmp_path / f"{sample}-{'dark' if dark else 'light'}.png").read_bytes().startswith(b"\x89PNG")
    ground = chromium.ask("getComputedStyle(document.body).backgroundColor")
    assert luminance(ground) < 0.05 if dark else luminance(ground) > 0.9
    colours = chromium.ask(
        f"[...document.querySelectorAll({TEXTS!r})].map(e => {{ const s = getComputedStyle(e); "
        "return e.closest('svg') && e.tagName === 'text' ? s.fill : s.color; })"
    )
    assert {colour for colour in colours if contrast(colour, ground) < 4.5} == set()


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_missing_chromium_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHROMIUM", "no-such-browser")
    with pytest.raises(NoBrowser, match=r"^no Chromium is found: install Debian's chromium package, or set CHROMIUM"):
        find()
