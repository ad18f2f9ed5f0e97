"""The models of a worker, as it names them and as an operator does."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ServedModels:
    """The models of a worker, each once.

    Attributes:
        names: What clients call them. Empty before the first successful probe, and where only clients' keys open it.
        listed: What the server called them at the last probe.
    """

    names: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()

    @classmethod
    def of(cls, listed: tuple[str, ...], named: str | None) -> "ServedModels":
        """The models that a server lists, or the one that the operator named instead."""
        return cls(listed if named is None else (named,), listed)

    def own_name_of(self, model: str) -> str:
        """What the server itself calls one of its models: an operator may have named it otherwise."""
        renamed = self.listed and self.names and self.names[0] not in self.listed
        return self.listed[0] if renamed else model
