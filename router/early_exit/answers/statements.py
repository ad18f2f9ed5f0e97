"""Finds the last statement of an answer: "the answer is X", "final answer: X", "#### X", in several languages."""

import re
from dataclasses import dataclass

MAX_SHORT = 2000  # characters; what is as long or longer is no short answer

_WORD = r"\b"
_MARKUP = r"[*_`]{0,3}\s{0,3}"
_SAYS = rf"{_MARKUP}(?:would be|should be|must be|is|are|was|:|=)"
_ENGLISH = (
    rf"\banswer(?:\s(?:choice|option|key))?(?:\s(?:to|for|of)\s[^\n.:;]{{1,60}}?)?{_SAYS}"
    rf"|\b(?:correct|right|best|final)\s(?:option|choice|result|value){_SAYS}|####"
)
# Words for "answer" with the words for "is", in languages that write 3.5 as "3,5".
_COMMA_LANGUAGES = {
    "antwort|lösung|ergebnis": "ist|lautet",
    r"réponse(?:\s(?:finale|correcte))?": "est",
    r"respuesta(?:\s(?:final|correcta))?": "es",
    r"resposta(?:\s(?:final|correta))?": "é",
    r"risposta(?:\s(?:finale|corretta))?": "è",
    "antwoord": "is",
    "svaret?": "är|er",
    "vastaus": "on",
    "odpowiedź": "to",
    "odpověď": "je",
    "ответ|відповідь": "-|—|–",
    "cevap": "dir",
    "jawaban(?:nya)?": "adalah",
    "đáp án": "là",
}
_OTHER_LANGUAGES = {
    "答案(?:应该|應該)?": "是|为|為",
    "答え|正解|解答": "は",
    "정답|답": "은",
    "الجواب|الإجابة": "هو|هي",
    "उत्तर": "है",
    "คำตอบ": "คือ",
}


def _words(languages: dict[str, str], before: str = "") -> str:
    return "|".join(rf"{before}(?:{noun}){_MARKUP}(?:{verb}|:|=)" for noun, verb in languages.items())


_MARKER = re.compile(
    rf"(?:(?P<comma>{_words(_COMMA_LANGUAGES, _WORD)})|{_words(_OTHER_LANGUAGES)}|{_ENGLISH})"
    rf"{_MARKUP}:?[*_`]{{0,3}}[^\S\n]{{0,3}}\n{{0,2}}",
    re.IGNORECASE,
)
_STOP = re.compile(r"[.;!?](?=[\s*_`\"')]|$)|[.;!?](?=[\u3040-\u9fff\uac00-\ud7af])")
_ABBREVIATED = re.compile(
    r"(?:\b(?:St|Ste|Mt|Ft|Dr|Mr|Mrs|Ms|Prof|Sr|Jr|Gen|Col|Lt|Sgt|Capt|Cpt|Rev|Hon|Gov|Sen|Rep|Pres|Fig|Eq|Vol|Ch|Sec"
    r"|Art|Inc|Ltd|Co|Corp|Bros|Ave|Blvd|Rd|Sq|Nr|No|vs|v|approx|ca|cf|al|op|pp|p|etc|e\.g|i\.e|d\.h|z\.B|a\.m|p\.m"
    r"|B\.C|A\.D|U\.S|U\.K|U\.S\.A|Rs)|(?<![\w])[A-Z]|(?<=\.)[A-Za-z])$"
)
# Statements that announce an answer, and are none.
_ANNOUNCED = re.compile(
    r"(?:as follows|(?:given|shown|stated|listed|explained|found|written|provided)?\s?(?:below|above|here)"
    r"|the following"
    r"|clear|obvious|correct|wrong|right|simple|in (?:its )?simplest form|not (?:clear|known)|unknown|unclear"
    r"|yes and no"
    r"|it|he|she|they|we|you|these|those|this|that"
    r"|(?:let|let's|lets|first|firstly|to|we|we'll|we're|i|i'll|i'm|step|ok|okay|so|in|if|given|since|because|there"
    r"|here|consider|start|now|well|sure|certainly|based|for|from|suppose|assume|as|when|using|looking|note|it's"
    r"|this is"
    r"|that is)\b[^0-9]*"
    r"|(?:the|a|an|their|its|this|that|these|those)\s(?:sum|number|total|product|difference|quotient|result|value"
    r"|answer|amount|same|first|second|last|one|option|quantity|average|mean|ratio|area|volume"
    r"|length)\b[^0-9]*)[.,:;!]*",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Statement:
    """What a text says its answer is.

    Attributes:
        said: The words, to the end of their sentence.
        decimal_comma: Whether they are in a language that writes 3.5 as "3,5".
    """

    said: str
    decimal_comma: bool


def last_statement(text: str) -> Statement | None:
    """The last statement that says anything; None when it only announces an answer that stands elsewhere."""
    for marker in reversed(list(_MARKER.finditer(text))):
        said = _sentence(text[marker.end() : marker.end() + MAX_SHORT])
        if not said.strip(" *_`.:,"):
            continue
        if _ANNOUNCED.fullmatch(said.strip(" *_`")) or re.search(r"\w\w[\s*_`]*:[\s*_`]*$", said):
            return None
        return Statement(said, decimal_comma=marker["comma"] is not None)
    return None


def _sentence(text: str) -> str:
    """The text to the end of its first line and sentence; a full stop of an abbreviation or initial ends none."""
    text = text.split("\n", 1)[0]
    for stop in _STOP.finditer(text):
        before = text[: stop.start()]
        if stop[0] == ";" and before.count("(") + before.count("[") > before.count(")") + before.count("]"):
            continue
        if stop[0] != "." or not _is_abbreviation(text, stop.start()):
            return text[: stop.start() + 1]
    return text


def _is_abbreviation(text: str, stop: int) -> bool:
    before = _ABBREVIATED.search(text[max(0, stop - 12) : stop])
    if before is None or not text[stop + 1 :].strip():
        return False
    if before[0] == "No":
        return text[stop + 1 :].lstrip()[:1].isdigit()
    return True
