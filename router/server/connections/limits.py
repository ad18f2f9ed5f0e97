"""Limits of clients' requests, the same in every version of HTTP."""

MAX_HEAD_BYTES = 64 << 10  # in HTTP/1.1 one read of the socket may exceed it
MIN_BODY_BYTES = 4 << 20  # a longer body must come at this rate at least, per time limit
