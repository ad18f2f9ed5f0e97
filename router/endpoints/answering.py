"""Awaits what answers a request, within its time, and tells an error in a stream that has begun."""

from collections.abc import Awaitable, Callable

from router.errors import RouterError, UpstreamTimeout, clear_tracebacks
from router.http.client_request import ClientRequest
from router.http.disconnect import while_connected
from router.http.sse import format_error

ERROR_EVENT_TIMEOUT = 5.0  # seconds for a client to receive the event of an error


async def answer_within(
    request: ClientRequest,
    work: Awaitable[None],
    seconds: float,
    error_event: Callable[[RouterError], bytes] = format_error,
) -> None:
    """Await what answers the request; a client that leaves cancels it.

    An error after the response began becomes an event of its stream, as in OpenAI's API. A client that does not
    receive that event in time is disconnected.

    Args:
        request: The client's request; call only after its body was read.
        work: What answers it.
        seconds: For the whole response.
        error_event: Writes an error as the last events of a stream.

    Raises:
        RouterError: It failed, or took too long, and the error cannot be told in a stream.
    """
    try:
        await while_connected(request, work, seconds)
        return
    except TimeoutError:
        error: RouterError = UpstreamTimeout(f"the request was not answered within {seconds:g} s.")
    except RouterError as raised:
        error = raised
    if not request.response_started or request.response_complete:
        raise error
    request.stream_error = error.kind
    try:
        await while_connected(request, _send_event(request, error_event(error)), ERROR_EVENT_TIMEOUT)
    except TimeoutError:
        raise error from None
    clear_tracebacks(error)


async def _send_event(request: ClientRequest, event: bytes) -> None:
    await request.send_chunk(b"\n" + event)
    await request.send_chunk(b"", more=False)
