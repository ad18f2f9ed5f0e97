"""Which rules of a grammar match some finite text."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def finite_rules(rules: Mapping[Name, Sequence[Sequence[Name]]]) -> set[Name]:
    """The names of the rules that match some finite text.

    Args:
        rules: For each rule a list of parts, and for each part the rules that may stand there. A rule matches a finite
            text if, for each of its parts, one of these does.

    The time is linear in the size of `rules`: Dowling and Gallier's algorithm for Horn clauses.
    """
    open_parts = {name: len(parts) for name, parts in rules.items()}
    waiting_for: dict[Name, list[tuple[Name, int]]] = {}
    for name, parts in rules.items():
        for index, alternatives in enumerate(parts):
            for each in alternatives:
                waiting_for.setdefault(each, []).append((name, index))
    found: set[Name] = set()
    done: set[tuple[Name, int]] = set()
    ready = [name for name, count in open_parts.items() if count == 0]
    while ready:
        name = ready.pop()
        if name in found:
            continue
        found.add(name)
        for owner, index in waiting_for.get(name, ()):
            if (owner, index) not in done:
                done.add((owner, index))
                open_parts[owner] -= 1
                if open_parts[owner] == 0:
                    ready.append(owner)
    return found
