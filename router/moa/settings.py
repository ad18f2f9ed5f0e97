"""Flags of runs: how many at once, how much is kept of them, and the embedding model of early exit."""

from dataclasses import dataclass

from router.config.flags import flag
from router.early_exit import BUILTIN_MODEL


@dataclass(frozen=True)
class RunSettings:
    """Limits of runs, and the model that embeds answers.

    A client is known by its API key, or else by its address.
    """

    total: int = flag("--max-runs", default=256, minimum=1, help_text="most runs of trees at once")
    per_client: int = flag("--max-runs-per-client", default=64, minimum=1, help_text="the same of one client")
    waiting: int = flag(
        "--max-waiting-agents",
        default=1024,
        minimum=1,
        help_text="requests with `run` that wait for other agents' answers",
    )
    waiting_per_client: int = flag(
        "--max-waiting-agents-per-client", default=256, minimum=1, help_text="the same of one client"
    )
    named: int = flag(
        "--max-named-runs",
        default=1024,
        minimum=1,
        help_text="runs that clients name; beyond it the oldest idle one is forgotten",
    )
    named_per_client: int = flag(
        "--max-named-runs-per-client", default=256, minimum=1, help_text="the same of one client"
    )
    named_bytes: int = flag(
        "--named-runs-max-bytes", default=256 << 20, minimum=0, help_text="bytes of the answers in those runs"
    )
    store_bytes: int = flag(
        "--run-store-max-bytes", default=64 << 20, minimum=0, help_text="bytes of the traces that /runs keeps"
    )
    embedding_model: str = flag(
        "--embedding-model",
        default=BUILTIN_MODEL,
        help_text="what early exit embeds answers with: a folder or a hub's name",
    )
