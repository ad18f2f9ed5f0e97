"""JSON request bodies: reading their fields, and rendering them for the workers."""

from router.http.body.json_body import LONG_BODY, Body, LongBody, parse_object, read_body

__all__ = ["LONG_BODY", "Body", "LongBody", "parse_object", "read_body"]
