"""Labels by which pods are told apart."""

import re
from collections.abc import Iterable, Mapping

Labels = Mapping[str, str]

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_VALUE = re.compile(rf"({_NAME})?")


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """Labels from `KEY=VALUE ...`, also several in one text; raises `ValueError` with one sentence."""
    found: dict[str, str] = {}
    for text in (word for each in texts for word in each.split()):
        key, equals, value = text.partition("=")
        if not equals or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise ValueError(f"{text!r} is no label; give KEY=VALUE.")
        if found.setdefault(key, value) != value:
            raise ValueError(f"{key} can be only one of {found[key]!r} and {value!r}.")
    return found


def match(wanted: Labels, labels: Labels) -> bool:
    """Whether something with these labels has all that are wanted; nobody is meant by none."""
    return bool(wanted) and wanted.items() <= labels.items()


def selector(several: Iterable[Labels]) -> str:
    """A label selector, in the API's words, for whatever one of several matches: what they have in common.

    It may let more through, since the API knows no "or" between keys.
    """
    all_of = [labels for labels in several if labels]
    common = [key for key in all_of[0] if all(key in labels for labels in all_of)] if all_of else []
    return ",".join(_requirement(key, {labels[key] for labels in all_of}) for key in sorted(common))


def _requirement(key: str, values: set[str]) -> str:
    if len(values) == 1:
        return f"{key}={values.pop()}"
    return f"{key} in ({','.join(sorted(values))})"
