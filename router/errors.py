"""Every error of the router, as one tree.

RouterError                 has an HTTP status, an OpenAI error type and one sentence
├── BadRequest        400   the request is wrong
│   └── AgentRefused  400   a worker refused an agent's request
├── Unauthorized      401   no or a wrong API key
├── NotFound          404   no such model or path
├── MethodNotAllowed  405   the path exists, the method does not
├── TimedOutInQueue   408   the request waited too long for its turn
├── SlowClient        408   the client sent its request too slowly
├── Conflict          409   what is asked for is there already
├── TooLarge          413   the body is over the limit
├── HeadTooLarge      431   the request's head is over the limit
├── TooManyRequests   429   the limits are reached
│   └── TooManyRuns   429   the client, or all clients, have enough runs under way
├── NotOffered        501   sglang-router has this path, this router does not
├── UpstreamFailed    502   a worker broke the connection or answered nonsense
├── NoWorker          503   no healthy worker for the model
└── UpstreamTimeout   504   a worker did not answer in time

UpstreamFailed
├── ConnectFailed           the worker could not be reached; nothing was sent
└── ConnectionLost          the worker closed the connection before the answer was whole
"""

from typing import Any, ClassVar


class RouterError(Exception):
    """An error that is answered to the client; `str(error)` is one sentence."""

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds, where the client had better wait

    def body(self) -> dict[str, Any]:
        """The OpenAI error object."""
        return {"error": {"message": str(self), "type": self.kind, "code": self.status}}


class BadRequest(RouterError):
    """The request is wrong."""

    status = 400
    kind = "invalid_request_error"


class AgentRefused(BadRequest):
    """A worker refused an agent's request."""


class Unauthorized(RouterError):
    """No or a wrong API key."""

    status = 401
    kind = "authentication_error"


class NotFound(RouterError):
    """No such model or path."""

    status = 404
    kind = "not_found_error"


class MethodNotAllowed(RouterError):
    """The path exists, the method does not."""

    status = 405
    kind = "invalid_request_error"


class TimedOutInQueue(RouterError):
    """The request waited too long for its turn."""

    status = 408
    kind = "timeout"


class SlowClient(RouterError):
    """The client sent its request too slowly."""

    status = 408
    kind = "timeout"


class Conflict(RouterError):
    """What is asked for is there already."""

    status = 409
    kind = "conflict_error"


class TooManyRequests(RouterError):
    """The limits are reached."""

    status = 429
    kind = "rate_limit_error"


class TooManyRuns(TooManyRequests):
    """The client, or all clients together, have enough runs under way."""


class NotOffered(RouterError):
    """sglang-router has this path, this router does not."""

    status = 501
    kind = "not_implemented_error"


class TooLarge(RouterError):
    """The body is over the limit."""

    status = 413
    kind = "invalid_request_error"


class HeadTooLarge(RouterError):
    """The request's head is over the limit."""

    status = 431
    kind = "invalid_request_error"


class UpstreamFailed(RouterError):
    """A worker broke the connection or answered nonsense.

    Attributes:
        upstream_status: The status of a worker that refused; None when it did not get that far.
    """

    status = 502
    kind = "upstream_error"
    upstream_status: int | None = None


class ConnectFailed(UpstreamFailed):
    """The worker could not be reached; nothing was sent."""


class ConnectionLost(UpstreamFailed):
    """The worker closed the connection before the answer was whole."""


class NoWorker(RouterError):
    """No healthy worker for the model."""

    status = 503
    kind = "service_unavailable"


class UpstreamTimeout(RouterError):
    """A worker did not answer in time."""

    status = 504
    kind = "timeout"
    upstream_status: int | None = None


def forget_frames(error: BaseException) -> None:
    """Cut a handled error off from the frames it passed through.

    They hold the request's body, and often the error too: a circle, which would keep the body until the garbage
    collector comes by.
    """
    passed: BaseException | None = error
    while passed is not None:
        before, passed.__context__, passed.__traceback__ = passed.__context__, None, None
        passed = before
