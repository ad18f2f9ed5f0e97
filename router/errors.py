"""The router's exceptions, each with its HTTP status and OpenAI error type.

RouterError                 the base class
├── BadRequest        400   the request is invalid
│   └── AgentRefused  400   a worker refused the request of one agent of a run
├── Unauthorized      401   the API key is missing or wrong
├── Forbidden         403   the API key lacks the right, or a web page of another origin may not do this
├── NotFound          404   no such model or path
├── MethodNotAllowed  405   the path exists, the method does not
├── TimedOutInQueue   408   the request waited in the queue for too long
├── SlowClient        408   the client sent its request too slowly
├── Conflict          409   a resource of this name exists already
├── TooLarge          413   the request body is over the limit
├── UnsupportedMedia  415   the request body is encoded in a way that is not read here
├── HeadTooLarge      431   the request line and headers are over the limit
├── TooManyRequests   429   a concurrency or rate limit is reached
│   └── TooManyRuns   429   the limit of concurrent runs is reached, of one client or of all
├── NotOffered        501   sglang-router has this path, this router does not
├── UpstreamFailed    502   a worker broke the connection or sent an invalid response
├── NoWorker          503   no healthy worker serves the model
├── Overloaded        503   the router holds as many bytes as it may
└── UpstreamTimeout   504   a worker did not respond in time

UpstreamFailed
├── ConnectFailed           no connection to the worker; nothing was sent
└── ConnectionLost          the worker closed the connection before the end of its response
"""

from typing import Any, ClassVar


class RouterError(Exception):
    """An error that becomes a response to the client; `str(error)` is one sentence.

    Attributes:
        status: The HTTP status.
        kind: The OpenAI error type; also the error code in metrics and logs.
        retry_after: Seconds after which the client may retry; None where that is unknown.
        code: The error's name for programs, as the other routers write it; None where they have none.
    """

    status: ClassVar[int] = 500
    kind: ClassVar[str] = "internal_error"

    def __init__(self, message: str, *, retry_after: float | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.code = code

    def body(self) -> dict[str, Any]:
        """The error as OpenAI's API writes it, with its name beside it."""
        body: dict[str, Any] = {"error": {"message": str(self), "type": self.kind, "code": self.status}}
        return body if self.code is None else {**body, "code": self.code}


class BadRequest(RouterError):
    """The request is invalid."""

    status = 400
    kind = "invalid_request_error"


class AgentRefused(BadRequest):
    """A worker refused the request of one agent of a run."""


class Unauthorized(RouterError):
    """The API key is missing or wrong."""

    status = 401
    kind = "authentication_error"


class Forbidden(RouterError):
    """The API key lacks the right, or a web page of another origin may not do this."""

    status = 403
    kind = "permission_error"


class NotFound(RouterError):
    """No such model or path."""

    status = 404
    kind = "not_found_error"


class MethodNotAllowed(RouterError):
    """The path exists, the method does not."""

    status = 405
    kind = "invalid_request_error"


class TimedOutInQueue(RouterError):
    """The request waited in the queue for too long."""

    status = 408
    kind = "timeout"


class SlowClient(RouterError):
    """The client sent its request too slowly."""

    status = 408
    kind = "timeout"


class Conflict(RouterError):
    """A resource of this name exists already."""

    status = 409
    kind = "conflict_error"


class TooManyRequests(RouterError):
    """A concurrency or rate limit is reached."""

    status = 429
    kind = "rate_limit_error"


class TooManyRuns(TooManyRequests):
    """The limit of concurrent runs is reached, of one client or of all together."""


class NotOffered(RouterError):
    """sglang-router has this path, this router does not."""

    status = 501
    kind = "not_implemented_error"


class TooLarge(RouterError):
    """The request body is over the limit."""

    status = 413
    kind = "invalid_request_error"


class UnsupportedMedia(RouterError):
    """The request body is encoded in a way that is not read here."""

    status = 415
    kind = "invalid_request_error"


class HeadTooLarge(RouterError):
    """The request line and headers are over the limit."""

    status = 431
    kind = "invalid_request_error"


class UpstreamFailed(RouterError):
    """A worker broke the connection or sent an invalid response.

    Attributes:
        upstream_status: The HTTP status with which the worker refused; None when it sent none.
    """

    status = 502
    kind = "upstream_error"
    upstream_status: int | None = None


class ConnectFailed(UpstreamFailed):
    """No connection to the worker; nothing was sent.

    Attributes:
        silent: Whether nobody answered; else the connection was refused.
    """

    silent = False


class ConnectionLost(UpstreamFailed):
    """The worker closed the connection before the end of its response."""


class NoWorker(RouterError):
    """No healthy worker serves the model."""

    status = 503
    kind = "service_unavailable"


class Overloaded(RouterError):
    """The router holds as many bytes for its clients as it may."""

    status = 503
    kind = "overloaded_error"


class UpstreamTimeout(RouterError):
    """A worker did not respond in time; `upstream_status` as for `UpstreamFailed`."""

    status = 504
    kind = "timeout"
    upstream_status: int | None = None


def clear_tracebacks(error: BaseException) -> None:
    """Remove the traceback and context of a handled error, and of the errors before it.

    The frames hold the request body, and often the error itself: a reference cycle that would keep the body in memory
    until the garbage collector runs.
    """
    current: BaseException | None = error
    while current is not None:
        previous, current.__context__, current.__traceback__ = current.__context__, None, None
        current = previous
