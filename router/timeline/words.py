"""Numbers and names as the page shows them."""

import unicodedata
from datetime import UTC, datetime

NOTHING = "\u2013"  # a dash, where there is no value

PHASES = {
    "wait": "wait",
    "speculative": "speculative prefill",
    "prefill": "prefill",
    "decode": "decode",
    "aborted": "aborted",
    "failed": "failed",
}


def seconds(value: float | None) -> str:
    """`83 ms`, `1.25 s`, `12.3 s`, `3 min 05 s`; a dash for None."""
    if value is None:
        return NOTHING
    if value < 0.9995:
        return f"{value * 1000:.0f} ms" if value else "0 s"
    if value < 9.995:
        return f"{value:.2f} s"
    if value < 99.95:
        return f"{value:.1f} s"
    if value < 119.5:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes:,} min {rest:02d} s"


def count(value: int | None) -> str:
    """With thousands apart; a dash for None."""
    return NOTHING if value is None else f"{value:,}"


def score(value: float | None) -> str:
    """Two digits; a dash for None."""
    return NOTHING if value is None else f"{value:.2f}" if abs(value) < 1e6 else f"{value:.1e}"


def percent(part: int, whole: int) -> str:
    """Of a whole, without digits; a dash of nothing."""
    return f"{100 * part / whole:.0f}%" if whole else NOTHING


def date(unix: float) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def width(text: str, size: float) -> float:
    """About how wide a text is in a sans-serif font of that size, in pixels; rather too wide than too narrow."""
    return size * sum(_em(character) for character in text)


def fit(text: str, size: float, room: float) -> str:
    """The text, cut in its middle where it is wider than the room: names mostly differ at their end."""
    if width(text, size) <= room:
        return text
    head, tail = text[:64], text[-64:]
    while (head or tail) and width(f"{head}…{tail}", size) > room:
        if len(head) > len(tail):
            head = head[:-1]
        else:
            tail = tail[1:]
    return f"{head}…{tail}"


def _em(character: str) -> float:
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in "iljtfr.,:;'|!I ()[]":
        return 0.42
    return 0.95 if character in "mwMW@%" else 0.78 if character.isupper() else 0.64
