"""Formats numbers and names for the page."""

import unicodedata
from datetime import UTC, datetime

DASH = "\u2013"  # shown for a missing value

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
        return DASH
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
    """With thousands separators; a dash for None."""
    return DASH if value is None else f"{value:,}"


def score(value: float | None) -> str:
    """Two decimals; a dash for None."""
    return DASH if value is None else f"{value:.2f}" if abs(value) < 1e6 else f"{value:.1e}"


def percent(part: int, whole: int) -> str:
    """Share of a whole, without decimals; a dash if the whole is 0."""
    return f"{100 * part / whole:.0f}%" if whole else DASH


def date(unix: float) -> str:
    """Unix seconds as UTC date and time."""
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def width(text: str, size: float) -> float:
    """Estimate a text's width in pixels, in a sans-serif font of `size` pixels; rather too wide than too narrow."""
    return size * sum(_em(character) for character in text)


def fit(text: str, size: float, max_width: float) -> str:
    """The text, shortened in its middle to `max_width` pixels: names mostly differ at their end."""
    if width(text, size) <= max_width:
        return text
    head, tail = text[:64], text[-64:]
    while (head or tail) and width(f"{head}…{tail}", size) > max_width:
        if len(head) > len(tail):
            head = head[:-1]
        else:
            tail = tail[1:]
    return f"{head}…{tail}"


def _em(character: str) -> float:
    """The estimated width of a character, relative to the font size."""
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    if character in "iljtfr.,:;'|!I ()[]":
        return 0.42
    return 0.95 if character in "mwMW@%" else 0.78 if character.isupper() else 0.64
