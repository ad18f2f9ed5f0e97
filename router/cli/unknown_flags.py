"""One sentence about words of a command line that no flag takes."""

import argparse
from collections.abc import Sequence
from difflib import get_close_matches

from router.cli.refused_flags import REFUSED_FLAGS

SIMILARITY = 0.75  # from which on another flag may be meant
MAX_SHOWN = 80  # characters of a word


def unknown_words(parser: argparse.ArgumentParser, words: Sequence[str]) -> str:
    """A sentence about the first of the words that a parser did not know."""
    flags = [word.partition("=")[0] for word in words if word.startswith("-") and word != "-"]
    if not flags:
        return f"{words[0][:MAX_SHOWN]!r} belongs to no flag; python -m router --help lists them."
    name = flags[0][:MAX_SHOWN]
    known = [each for each in parser._option_string_actions if each.startswith("--") and each not in REFUSED_FLAGS]
    # In the launcher of SGLang and smg the router's flags begin so.
    without_prefix = "--" + name.removeprefix("--router-")
    meant = without_prefix if without_prefix in known else next(iter(get_close_matches(name, known, 1, SIMILARITY)), "")
    hint = f"is {meant} meant?" if meant else "python -m router --help lists all."
    return f"{name} is no flag of this router; {hint}"
