r"""Brings a text to one spelling of characters (`plain_characters`) and an answer to one without LaTeX (`plain_math`).

`plain_math` keeps what has a meaning: `\frac{a}{b}` becomes a/b, x^{2} x^2, `\{` a brace, `\text{ m}` its words. A
command that it does not know stays, so that different answers stay different. Both are linear in the text's length.
"""

import re
import unicodedata

_MAX_NESTING = 8

_SUPERSCRIPTS = re.compile("[⁺⁻]?[⁰¹²³⁴-⁹]+|ⁿ")
_SUBSCRIPTS = re.compile("[₀-₉]+")
_VULGAR = re.compile("[¼-¾⅐-⅞↉]")
_AFTER_DIGIT = re.compile(r"(?<=[0-9]) ?(?=[¼-¾⅐-⅞↉])")
_CHARACTERS = str.maketrans(
    {
        **dict.fromkeys("\u2212\u2010\u2011\ufe63\uff0d", "-"),
        **dict.fromkeys("\u00a0\u2007\u2008\u2009\u200a\u202f\u2005\u2006", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f"),
        **dict.fromkeys("’ʼ‘´", "'"),
        **dict.fromkeys("“”„«»", '"'),
        **dict.fromkeys("×⋅·∙", "*"),
        "º": "°", "◦": "°", "٫": ".", "٬": ",", "،": ",", "⹁": ",", "。": ".", "、": ", ",
        "≤": "<=", "≥": ">=", "≠": "!=", "π": "pi", "∞": "inf", "√": "sqrt", "÷": "/", "\u2044": "/",
    }
)  # fmt: skip

_FONT = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mathsf|mathbb|operatorname|boxed|fbox|mbox|bm)\s?\{([^{}]*)\}"
)
_SIZE = re.compile(r"\\(?:left|right|displaystyle|textstyle|bigl?|bigr|Bigl?|Bigr|limits)(?![a-zA-Z])")
_SPACE = re.compile(r"\\(?:[,;:! ]|quad(?![a-z])|qquad(?![a-z]))|~")
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|\\[,;: !]|~)(?=[0-9]{3}(?![0-9]))")
_DEGREES = re.compile(r"\^\s?\{?\s?\\circ\s?\}?|\\degree(?![a-z])")
_BARE_FRACTION = re.compile(r"\\frac\s?([0-9])\s?([0-9])(?![0-9])")
_FRACTION = re.compile(r"(?P<whole>(?<![\w.^)])[0-9]+)?\s?\\frac\s?\{(?P<a>[^{}]*)\}\s?\{(?P<b>[^{}]*)\}")
_ROOT = re.compile(r"\\?sqrt\s?\{([^{}]*)\}")
_SCRIPT = re.compile(r"([_^])\s?\{([^{}]*)\}")
_COMMANDS = {
    "cdot": "*", "times": "*", "div": "/", "pi": "pi", "infty": "inf", "le": "<=", "leq": "<=", "leqslant": "<=",
    "ge": ">=", "geq": ">=", "geqslant": ">=", "lt": "<", "gt": ">", "ne": "!=", "neq": "!=", "sqrt": "sqrt",
    "pm": "±", "approx": "≈", "sim": "≈",
}  # fmt: skip
_COMMAND = re.compile(rf"\\({'|'.join(sorted(_COMMANDS, key=len, reverse=True))})(?![a-zA-Z])\s?")
_ESCAPED = re.compile(r"\\([%#&_])")
_DISPLAY = re.compile(r"\\[()\[\]]")
_BOLD = re.compile(r"(?<![\w)\]*])\*\*([^\s*][^*\n]{0,200})\*\*")
_POWER = re.compile(r"(?<=[0-9)])\*\*(?=[-0-9a-zA-Z(])")
_STRONG = re.compile(r"\*\*+|__+|`")
_EMPHASIS = re.compile(r"(?<![\w)\]*])(?<![0-9)\]] )\*([^\s*][^*\n]{0,200})\*(?![\w(*])")
_ATOM = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|[a-zA-Z]|\\?[a-z]+|sqrt\([^()]*\))")


def plain_characters(text: str) -> str:
    """One spelling of letters, digits, dashes, quotes and spaces, in whatever script the digits are."""
    if not text.isascii():
        text = _SUPERSCRIPTS.sub(
            lambda found: "^" + unicodedata.normalize("NFKC", found[0]).translate(_CHARACTERS), text
        )
        text = _SUBSCRIPTS.sub(lambda found: "_" + unicodedata.normalize("NFKC", found[0]), text)
        text = _VULGAR.sub(lambda found: unicodedata.normalize("NFKC", found[0]), _AFTER_DIGIT.sub(" ", text))
        text = unicodedata.normalize("NFKC", text.translate(_CHARACTERS)).translate(_CHARACTERS)
        text = "".join(str(unicodedata.decimal(each)) if each.isdecimal() else each for each in text)
    return text.replace("\r\n", "\n").replace("\t", " ")


def plain_math(text: str) -> str:
    """An answer, or a text with answers, without LaTeX and markdown that say nothing."""
    text = _STRONG.sub("", _POWER.sub("^", _BOLD.sub(r"\1", text)))
    text = _EMPHASIS.sub(r"\1", text)
    if "\\" in text or "{" in text or "$" in text:
        text = text.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("\\cfrac", "\\frac")
        text = _DEGREES.sub("°", _SPACE.sub(" ", _THOUSANDS.sub(",", _SIZE.sub("", text))))
        text = text.replace("\\{", "⦃").replace("\\}", "⦄").replace("\\$", "＄")
        text = _BARE_FRACTION.sub(r"\\frac{\1}{\2}", _ESCAPED.sub(r"\1", text))
        for _ in range(_MAX_NESTING):
            before = text
            text = _FONT.sub(r" \1 ", text)
            text = _SCRIPT.sub(lambda found: found[1] + _grouped(found[2]), text)
            text = _ROOT.sub(r"sqrt(\1)", text)
            text = _FRACTION.sub(_divided, text)
            if text == before:
                break
        text = _COMMAND.sub(lambda found: _COMMANDS[found[1]], _DISPLAY.sub("", text))
        text = _currency(text).replace("⦃", "{").replace("⦄", "}").replace("＄", "$")
    return re.sub(r" {2,}", " ", text)


def _divided(found: re.Match[str]) -> str:
    whole = f"{found['whole']} " if found["whole"] else ""
    return f"{whole}{_grouped(found['a'])}/{_grouped(found['b'])}"


def _grouped(text: str) -> str:
    text = text.strip()
    return text if _ATOM.fullmatch(text) else f"({text})"


def _currency(text: str) -> str:
    """Without the dollars that delimit mathematics; a lone one before a digit is money."""
    if text.count("$") == 1 and re.search(r"\$ ?[0-9.]", text):
        return text
    return text.replace("$", "")
