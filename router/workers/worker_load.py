"""What this router has under way on a worker."""

from collections import Counter
from collections.abc import Callable


class WorkerLoad:
    """Counts a worker's requests; whoever sends one to it tells its begin and its end.

    Args:
        whole: The load of the server, if this is the load of one of its ranks: what counts here counts there too.

    Attributes:
        requests: Requests in flight through this process of the router. On a prefill server a request ends with its
            prefill.
        elsewhere: Those through its other processes, as these told last.
        tokens_elsewhere: Of those, what `expected_tokens` is of this process's.
        on_begin: Called at each `begin`; None while nobody wants to know.
        sent: Requests that the router sent to it for an answer, by model.
        places_taken: Answers that a decode server owes to them: a batch counts as its prompts.
        expected_tokens: Tokens that clients expect of the answers in flight, as far as they said so.
    """

    def __init__(self, whole: "WorkerLoad | None" = None) -> None:
        self._whole = whole
        self.requests = 0
        self.elsewhere = self.tokens_elsewhere = 0
        self.on_begin: Callable[[], None] | None = None
        self.sent: Counter[str] = Counter()
        self.places_taken = 0
        self.expected_tokens = 0
        self._heard = False
        self._on_release: Callable[[], None] | None = None

    def begin(self, model: str, places: int = 0) -> None:
        """Count a request for a model that is sent now, and the places that it takes."""
        self.requests += 1
        self.sent[model] += 1
        self.places_taken += places
        if self.on_begin is not None:
            self.on_begin()
        if self._whole is not None:
            self._whole.begin(model, places)

    def end(self, places: int = 0) -> None:
        """Count it no more; a `begin` without its places gave none."""
        self.requests -= 1
        self.places_taken -= places
        if self._whole is not None:
            self._whole.end(places)

    def take_places(self, count: int) -> None:
        """Take places for requests that are sent later; `free_places` gives them back."""
        self.places_taken += count
        if self._whole is not None:
            self._whole.take_places(count)

    def free_places(self, count: int) -> None:
        """Give back what `take_places` took."""
        self.places_taken -= count
        if self._whole is not None:
            self._whole.free_places(count)

    def expect_tokens(self, count: int) -> None:
        """Count what a client expects of its answer; the negative number once the answer is over."""
        self.expected_tokens += count
        if self._whole is not None:
            self._whole.expect_tokens(count)

    @property
    def in_flight(self) -> int:
        """Requests in flight through all processes of this router."""
        return self.requests + self.elsewhere

    def call_on_release(self, callback: Callable[[], None] | None) -> None:
        """Call this at each `tell_release` from now on; None while nobody waits for that."""
        self._on_release = callback

    def tell_release(self) -> None:
        """A request on it has ended: tell who waits for that."""
        if self._on_release is not None:
            self._on_release()
        if self._whole is not None:
            self._whole.tell_release()

    def hear(self) -> None:
        """Note that a byte of a response to a client came from it."""
        self._heard = True
        if self._whole is not None:
            self._whole.hear()

    @property
    def heard(self) -> bool:
        """Whether a byte came since `forget_heard`."""
        return self._heard

    def forget_heard(self) -> bool:
        """Returns `heard`, which is False from now on."""
        heard, self._heard = self._heard, False
        return heard
