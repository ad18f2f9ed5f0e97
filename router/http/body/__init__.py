"""Bodies of requests: what of them the router looks at, and how they are sent on."""

from router.http.body.json_body import LONG, Body, LongBody, parse_object, read_body

__all__ = ["LONG", "Body", "LongBody", "parse_object", "read_body"]
