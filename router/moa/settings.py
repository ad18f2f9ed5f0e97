"""Flags of runs: how many at once, and the embedding model of early exit."""

from dataclasses import dataclass

from router.config.flags import flag
from router.early_exit import BUILTIN_MODEL


@dataclass(frozen=True)
class RunSettings:
    """Limits of concurrent runs, and the model that embeds answers."""

    total: int = flag("--max-runs", default=256, minimum=1, help_text="most runs of trees at once")
    per_client: int = flag("--max-runs-per-client", default=64, minimum=1, help_text="the same of one client")
    embedding_model: str = flag(
        "--embedding-model",
        default=BUILTIN_MODEL,
        help_text="what early exit embeds answers with: a folder or a hub's name",
    )
