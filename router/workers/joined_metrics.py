"""The Prometheus texts of several workers as one: each family's type once, each sample with its worker's address."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_SAMPLE = re.compile(r"([A-Za-z_:][A-Za-z0-9_:]*)(?:[ \t]*\{(.*)\}[ \t]*|[ \t]+)([^\s{}]+(?:[ \t]+-?\d+)?)\s*")
_LABEL = re.compile(r'([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*,?[ \t]*')
_ABOUT = re.compile(r"#[ \t]+(HELP|TYPE)[ \t]+([A-Za-z_:][A-Za-z0-9_:]*)[ \t]*(.*)")
_SUFFIXES = ("_bucket", "_sum", "_count", "_total", "_created")


@dataclass
class _Family:
    """One metric: what the first worker says about it, and the samples of all."""

    about: dict[str, str] = field(default_factory=dict)  # by HELP and TYPE
    samples: list[str] = field(default_factory=list)


def join_metrics(texts: Iterable[tuple[str, str | None, str]]) -> Iterator[str]:
    """Yield the lines of one text.

    Args:
        texts: The address, the model (None where it is not known) and the metrics of each worker. Lines of other forms
            are left out, and labels of these two names that a worker gives itself: of `model_name` its own value stays.
    """
    families: dict[str, _Family] = {}
    for address, model, text in texts:
        known = {"worker_addr": address} if model is None else {"worker_addr": address, "model_name": model}
        current = ""
        for line in text.split("\n"):
            if line.startswith("#"):
                if (about := _ABOUT.fullmatch(line)) is not None:
                    kind, current, value = about.groups()
                    families.setdefault(current, _Family()).about.setdefault(kind, value)
            elif (sample := _SAMPLE.fullmatch(line)) is not None:
                name, given, value = sample.groups()
                labels = _labels(given or "", known)
                if labels is None:
                    continue
                family = families.setdefault(_family_of(name, current), _Family())
                family.samples.append(f"{name}{{{labels}}} {value}")
    for name, family in families.items():
        if family.samples:
            yield from (f"# {kind} {name} {value}" for kind, value in family.about.items())
            yield from family.samples


def _family_of(name: str, current: str) -> str:
    """The family of a sample after the lines about the family `current`."""
    return current if name == current or name in [current + suffix for suffix in _SUFFIXES] else name


def _labels(given: str, known: dict[str, str]) -> str | None:
    """A sample's labels with those that are known of its worker, whose address is not for it to say; None if wrong."""
    labels: dict[str, str] = {}
    at = 0
    while (label := _LABEL.match(given, at)) is not None:  # not `findall`, which takes long for long nonsense
        labels[label[1]] = label[2]
        at = label.end()
    if given[at:].strip():
        return None
    labels.pop("worker_addr", None)
    for name, value in known.items():
        labels.setdefault(name, _escaped(value))
    return ",".join([f'{name}="{value}"' for name, value in labels.items()])


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
