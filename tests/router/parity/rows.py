"""The rows: requests by which routers differ, and what is right, as data in `peers/`."""

import tomllib
from pathlib import Path
from typing import Any

import msgspec

FOLDER = Path(__file__).parent / "peers"
NAMES = ("prefill0", "prefill1", "decode0", "decode1", "plain0", "plain1")


class Step(msgspec.Struct, forbid_unknown_fields=True):
    """A request, and what is right about its answer.

    In `send`, `body`, `headers` and a row's `start`, `{plain0}` stands for that server's address, `{id}` for the id of
    the worker that was added last and `{n}` for the number of the repetition.

    Attributes:
        send: Method and path.
        body: JSON, or text.
        headers: The client's.
        times: How often it is sent, one after the other.
        status: Of each answer, or of the answers in their order.
        statuses: How many answers have which status.
        any_of: Statuses of which any is right.
        eventually: Whether it is sent again until the answer is right.
        has: Values in the JSON answer, by their place: `choices.0.text`, `choices.#` for how many.
        keys: Fields that it has, whatever they hold.
        text: What stands in the answer.
        back: Headers of the answer.
        asked: How many requests to this path each server got, those not named none. Empty says nothing.
        least: As `asked`, at least so many; others may have any number.
        asked_at: The path on the servers, where it is another one.
        got: Headers that each of these requests had.
        kept: Headers that none of them had.
        fault: What the servers do from here on: a status, or `drop`.
    """

    send: str
    body: Any = None
    headers: dict[str, str] = {}
    times: int = 1
    status: int | list[int] | None = None
    statuses: dict[str, int] = {}
    any_of: list[int] = []
    eventually: bool = False
    has: dict[str, Any] = {}
    keys: list[str] = []
    text: list[str] = []
    back: dict[str, str] = {}
    asked: dict[str, int] = {}
    least: dict[str, int] = {}
    asked_at: str | None = None
    got: dict[str, str] = {}
    kept: list[str] = []
    fault: dict[str, int | str] | None = None


class Row(msgspec.Struct, forbid_unknown_fields=True):
    """One row.

    Attributes:
        request: Its name.
        mode: How the router is started: a name of `MODES`.
        steps: What is asked, and what is right.
        start: More of the command line.
        key: The API key that the servers want.
        shown_by: Another test that shows it, instead of steps.
        differs: A sentence on why ours differs from the peers' and is right so.
    """

    request: str
    mode: str
    steps: list[Step] = []
    start: list[str] = []
    key: str | None = None
    shown_by: str | None = None
    differs: str | None = None

    def __post_init__(self) -> None:
        if bool(self.steps) == (self.shown_by is not None):
            raise ValueError(f"{self.request}: either steps or shown_by.")
        if self.mode not in MODES:
            raise ValueError(f"{self.request}: there is no mode {self.mode!r}.")


# The servers and the command line of each.
PLAIN = ["--worker-urls", "{plain0}", "{plain1}"]
PAIRS = ["--pd-disaggregation", "--prefill", "{prefill0}", "8998", "--prefill", "{prefill1}", "8998"]
PAIRS += ["--decode", "{decode0}", "--decode", "{decode1}"]
MODES: dict[str, list[str]] = {
    "pd": PAIRS,
    "plain": PLAIN,
    "empty": [],
    "down": ["--worker-urls", "http://127.0.0.1:1"],
}


def rows() -> list[Row]:
    """All rows, in the order of the files."""
    found = []
    for path in sorted(FOLDER.glob("*.toml")):
        found += msgspec.convert(tomllib.loads(path.read_text())["row"], list[Row])
    return found
