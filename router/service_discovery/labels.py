"""Pod labels: parsing, matching, and label selectors for the Kubernetes API."""

import re
from collections.abc import Iterable, Mapping

Labels = Mapping[str, str]

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}")
_VALUE = re.compile(rf"({_NAME})?")


def parse_labels(texts: Iterable[str]) -> dict[str, str]:
    """Parse labels from texts with one or more `KEY=VALUE` each; raises `ValueError` with one sentence."""
    labels: dict[str, str] = {}
    for label in (part for text in texts for part in text.split()):
        key, equals, value = label.partition("=")
        if not equals or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
            raise ValueError(f"{label!r} is no label; give KEY=VALUE.")
        if labels.setdefault(key, value) != value:
            raise ValueError(f"{key} can be only one of {labels[key]!r} and {value!r}.")
    return labels


def matches(selector: Labels, labels: Labels) -> bool:
    """Whether `labels` has all labels of `selector`; an empty selector matches nothing."""
    return bool(selector) and selector.items() <= labels.items()


def common_selector(selectors: Iterable[Labels]) -> str:
    """A label selector in API syntax that every pod satisfies which matches one of `selectors`.

    It is made of the keys that all have. Other pods may satisfy it too, since the API has no "or" between keys.
    """
    non_empty = [labels for labels in selectors if labels]
    common = [key for key in non_empty[0] if all(key in labels for labels in non_empty)] if non_empty else []
    return ",".join(_requirement(key, {labels[key] for labels in non_empty}) for key in sorted(common))


def _requirement(key: str, values: set[str]) -> str:
    if len(values) == 1:
        return f"{key}={values.pop()}"
    return f"{key} in ({','.join(sorted(values))})"
