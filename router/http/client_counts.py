"""How much of something each client has."""

from collections import Counter


class ClientCounts:
    """Amounts by client, and their sum. A client that has nothing takes no memory.

    Attributes:
        total: The sum over all clients.
    """

    def __init__(self) -> None:
        self._of_client: Counter[str] = Counter()
        self.total = 0

    def __len__(self) -> int:
        """The number of clients that have something."""
        return len(self._of_client)

    def of(self, client: str) -> int:
        """What a client has."""
        return self._of_client[client]

    def add(self, client: str, amount: int) -> None:
        """A client has more, or less where `amount` is negative."""
        self.total += amount
        self._of_client[client] += amount
        if not self._of_client[client]:
            del self._of_client[client]

    def most_common(self) -> list[str]:
        """The clients, those that have most first."""
        return [client for client, _ in self._of_client.most_common()]
