"""Admission control: limits on concurrent, queued and per-second requests."""

from router.server.admission.gate import ConcurrencyGate
from router.server.admission.limits import AdmissionLimits, AdmissionSettings
from router.server.admission.token_bucket import TokenBucket

__all__ = ["AdmissionLimits", "AdmissionSettings", "ConcurrencyGate", "TokenBucket"]
