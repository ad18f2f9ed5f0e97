"""Fields that clients must not send: those that only the router may set, and those that harm a server."""

from collections.abc import Mapping
from typing import Any

from router.errors import BadRequest

# With a bootstrap host of its own a client could make the servers connect to any address, or start a prefill whose KV
# nobody fetches.
RESERVED_FIELDS = ("bootstrap_host", "bootstrap_port", "bootstrap_room", "bootstrap_pair_key")
# Fields that SGLang sets itself, and takes from clients: an adapter's id that it does not know ends it, and another
# process's address gets the answers.
INTERNAL_FIELDS = ("lora_id", "http_worker_ipc")
# Fields that break an SGLang 0.5.17 server of a pair; one request with one of the first two ends the process.
HARMFUL_FIELDS = {
    "session_params": "prefill/decode servers have no sessions; send the whole prompt",
    "positional_embed_overrides": "no JSON can say them; send the prompt as text or token ids",
    "disagg_prefill_dp_rank": "the servers find each other by themselves",
}


def refuse_labels(fields: Mapping[str, Any]) -> None:
    """Raise `BadRequest` for labels of metrics, for a server without the overlay: one that it does not know ends it."""
    if fields.get("custom_labels"):
        raise BadRequest(
            "`custom_labels` is not taken here: a label that a server does not know ends it; leave it out."
        )


def refuse_harmful(fields: Mapping[str, Any]) -> None:
    """Raise `BadRequest` for a field in `HARMFUL_FIELDS`."""
    for name, reason in HARMFUL_FIELDS.items():
        if fields.get(name) is not None:
            raise BadRequest(f"`{name}` is not taken here: {reason}.")
