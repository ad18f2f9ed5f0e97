"""What the overlay keeps in one of SGLang's processes, in one object.

A process has one scheduler or one tokenizer manager, and many of SGLang's patched objects do not know it. So hooks
find here, by its class, the part that they need. `install` makes all parts when the scheduler or the tokenizer manager
starts, and they live as long as the process.
"""

from typing import TypeVar

Part = TypeVar("Part")


class ProcessState:
    """The parts of one process, at most one of each class."""

    def __init__(self) -> None:
        self._parts: dict[type, object] = {}

    def keep(self, *parts: object) -> None:
        """Keep parts; each replaces the one of its class."""
        self._parts.update({type(part): part for part in parts})

    def find(self, kind: type[Part]) -> Part | None:
        """Return the part of a class; None where this process has none."""
        part = self._parts.get(kind)
        return part if isinstance(part, kind) else None

    def get(self, kind: type[Part]) -> Part:
        """Return the part of a class that `install` always makes."""
        part = self.find(kind)
        assert part is not None, f"{kind.__name__} is used before it is installed"
        return part


process_state = ProcessState()
