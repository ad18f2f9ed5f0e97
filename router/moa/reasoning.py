"""Takes a thinking model's reasoning out of its answer: readers of the answer get what comes after it."""

TAGS = (("<think>", "</think>"), ("<|channel>thought", "<channel|>"))


class ReasoningSplitter:
    """Splits the text of one answer while it grows.

    An answer that begins with an opening tag, or may still become one, is reasoning up to the closing tag. Some chat
    templates write the opening tag themselves: a closing tag without an opening one ends the reasoning too. Each part
    of the text is searched once, so that a long answer costs no more per event than a short one.
    """

    def __init__(self) -> None:
        self._searched = 0  # characters of the text in which no reasoning ends
        self._end: tuple[int, int] | None = None  # where the reasoning ends, and where the answer begins

    def split(self, text: str) -> tuple[str, str]:
        """The answer without its reasoning, and the reasoning; `text` is everything written so far."""
        if self._end is None:
            self._find_end(text)
        if self._end is not None:
            end, start = self._end
            return text[start:].lstrip(), _without_opening(text[:end])
        begin = text[:64].lstrip()
        if begin and any(opening.startswith(begin[: len(opening)]) for opening, _ in TAGS):
            return "", _without_opening(text)
        return text, ""

    def _find_end(self, text: str) -> None:
        for opening, closing in TAGS:
            at = text.find(closing, max(0, self._searched - len(closing)))
            if at >= 0 and opening not in text[:at].lstrip()[len(opening) :]:
                self._end = at, at + len(closing)
                return
        self._searched = len(text)


def _without_opening(text: str) -> str:
    """The reasoning without its opening tag, or nothing while the tag is not complete."""
    begin = text.strip()
    for opening, _ in TAGS:
        if begin.startswith(opening):
            return begin[len(opening) :].strip()
        if opening.startswith(begin):
            return ""
    return begin
