"""The prompt of BBH: the task's input, and the form of its answer."""

import re

_FORMS = {
    "boolean_expressions": "True or False",
    "dyck_languages": "the missing brackets with spaces between them",
    "formal_fallacies": "valid or invalid",
    "multistep_arithmetic_two": "the number",
    "object_counting": "the number in figures",
    "sports_understanding": "yes or no",
    "web_of_lies": "Yes or No",
    "word_sorting": "the sorted words with spaces between them",
}
_LETTERED = re.compile(r"^\(A\) ", re.MULTILINE)
_LISTED = re.compile(r"^- \S", re.MULTILINE)


def prompt(task: str, text: str) -> str:
    """An input with what is asked of the answer."""
    if _LETTERED.search(text):
        form = "the letter of the right option in parentheses"
    elif task in _FORMS:
        form = _FORMS[task]
    else:
        form = "one of the options as it is written" if _LISTED.search(text) else "the answer alone"
    return f'{text}\n\nThink step by step. Then end with one line "The answer is: X", where X is {form}.'
