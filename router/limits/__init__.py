"""How many requests are let in: at once, waiting, and per second."""

from router.limits.bucket import Bucket
from router.limits.gate import Gate
from router.limits.limits import Limits, LimitSettings

__all__ = ["Bucket", "Gate", "LimitSettings", "Limits"]
