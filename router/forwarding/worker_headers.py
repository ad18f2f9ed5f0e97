"""Which headers of a worker's response its client gets."""

from router.http.asgi import SSE_HEADERS, Headers

# Headers of the connection, and those that only the router itself may set.
_OWN = frozenset(
    b"connection keep-alive transfer-encoding content-length content-type date server x-request-id set-cookie "
    b"proxy-authenticate www-authenticate upgrade trailer te".split()
)
_OF_STREAM = frozenset(name for name, _ in SSE_HEADERS)


def passed_headers(headers: Headers) -> Headers:
    """The headers to pass on; the content type is the caller's."""
    return [header for header in headers if header[0] not in _OWN and not header[0].startswith(b"access-control-")]


def stream_headers(headers: Headers) -> Headers:
    """All headers of an event stream, with those of a worker's response that are passed on."""
    return [*SSE_HEADERS, *(header for header in passed_headers(headers) if header[0] not in _OF_STREAM)]
