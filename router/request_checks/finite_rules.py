"""Which rules of a grammar have a finite text."""

from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

Name = TypeVar("Name", bound=Hashable)


def productive(needs: Mapping[Name, Sequence[Sequence[Name]]]) -> set[Name]:
    """The names that have a finite text, in time linear in the size of `needs`.

    A name has one when, in each of its groups, some name has one: a sequence has a group for each part, and an
    alternative is a group with several names. (The least solution of Horn clauses, by Dowling and Gallier's counting.)
    """
    open_groups = {name: len(groups) for name, groups in needs.items()}
    waiting_for: dict[Name, list[tuple[Name, int]]] = {}
    for name, groups in needs.items():
        for index, group in enumerate(groups):
            for each in group:
                waiting_for.setdefault(each, []).append((name, index))
    found: set[Name] = set()
    done: set[tuple[Name, int]] = set()
    ready = [name for name, count in open_groups.items() if count == 0]
    while ready:
        name = ready.pop()
        if name in found:
            continue
        found.add(name)
        for owner, index in waiting_for.get(name, ()):
            if (owner, index) not in done:
                done.add((owner, index))
                open_groups[owner] -= 1
                if open_groups[owner] == 0:
                    ready.append(owner)
    return found
