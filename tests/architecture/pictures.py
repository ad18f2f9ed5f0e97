"""The pictures of packages, as their READMEs have them.

    python -m tests.architecture.pictures router.http    prints one
    python -m tests.architecture.pictures                writes all anew into the READMEs there are

A picture is a Mermaid graph with a line `a --> b` for each module or package `a` of the package that imports `b`. Where
that would be more than `MAX_ARROWS` lines, those are left out that follow from others (`a` to `c` by way of `b`).
"""

import re
import sys

from tests.architecture.imports import FOLDERS, children, edges, folder_of, outside, packages

MAX_ARROWS = 30
_BLOCK = re.compile(r"```mermaid\ngraph TD\n(.*?)```", re.DOTALL)
_EDGE = re.compile(r"^ *(\w+) --> (\w+)$", re.MULTILINE)
_NODE = re.compile(r"^ *(\w+)$", re.MULTILINE)
_IMPORTS = re.compile(r"^Imports: (.*?)\.?$", re.MULTILINE)


def picture(package: str) -> str:
    """The picture of a package and the line of what it imports, as they must stand in its README."""
    arrows = sorted(arrows_of(package))
    alone = [name for name in children(package) if not any(name in arrow for arrow in arrows)]
    lines = [*(f"    {a} --> {b}" for a, b in arrows), *(f"    {name}" for name in alone)]
    others = ", ".join(f"`{name}`" for name in sorted(outside(package))) or "nothing of this project"
    return "\n".join(["```mermaid", "graph TD", *lines, "```", "", f"Imports: {others}."])


def arrows_of(package: str) -> frozenset[tuple[str, str]]:
    """The arrows of a package's picture."""
    arrows = edges(package)
    return (
        arrows
        if len(arrows) <= MAX_ARROWS
        else frozenset(arrow for arrow in arrows if not _another_way(arrows, *arrow))
    )


def _another_way(arrows: frozenset[tuple[str, str]], start: str, end: str) -> bool:
    """Whether `end` is reached from `start` by two arrows or more."""
    reached, ways = {start}, [b for a, b in arrows if a == start and b != end]
    while ways:
        at = ways.pop()
        if at == end:
            return True
        if at not in reached:
            reached.add(at)
            ways += [b for a, b in arrows if a == at]
    return False


def drawn(text: str) -> tuple[set[tuple[str, str]], set[str]] | None:
    """The arrows and the lone modules of a README's first picture; None where it has none."""
    block = _BLOCK.search(text)
    return None if block is None else (set(_EDGE.findall(block[1])), set(_NODE.findall(block[1])))


def said_imports(text: str) -> set[str] | None:
    """The packages that a README says its package imports; None where it does not say."""
    line = _IMPORTS.search(text)
    return None if line is None else set(re.findall(r"`([\w.]+)`", line[1]))


def write_all() -> None:
    """Put the real picture into every README of a package; one that has none gets it at the end."""
    for package in (each for top in FOLDERS for each in packages(top)):
        path = folder_of(package) / "README.md"
        if path.exists():
            text = _IMPORTS.sub("", path.read_text())
            new = picture(package)
            text = _BLOCK.sub(lambda _: new, text, count=1) if _BLOCK.search(text) else f"{text}\n{new}\n"  # noqa: B023
            path.write_text(re.sub(r"\n{3,}", "\n\n", text))


if __name__ == "__main__":
    for each in sys.argv[1:]:
        print(picture(each))
    if not sys.argv[1:]:
        write_all()
