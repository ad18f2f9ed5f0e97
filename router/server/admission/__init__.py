"""How many requests are let in: at once, waiting, and per second."""

from router.server.admission.gate import Gate
from router.server.admission.limits import Limits, LimitSettings
from router.server.admission.token_bucket import Bucket

__all__ = ["Bucket", "Gate", "LimitSettings", "Limits"]
