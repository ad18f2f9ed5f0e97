"""What the Hugging Face hub, or its local cache, tells of a model: its config.json, and the size of its weights."""

from dataclasses import dataclass
from pathlib import Path

from launch.errors import ConfigError

TIMEOUT_SECONDS = 10.0
WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class HubModel:
    """A model of the hub."""

    folder: Path
    """A folder with its config.json, and with its weights where they are downloaded."""
    checkpoint_bytes: int | None
    """Size of its weights on the hub; None where they lie in the folder, or the hub did not tell."""


def hub_model(name: str) -> HubModel:
    """A model by its hub name: from the local cache, else config.json and the sizes of files from the hub.

    The weights are not downloaded here; the servers do that.

    Raises:
        ConfigError: It is neither cached, nor can the hub be asked for it.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        raise ConfigError(
            f"the model {name} is neither a folder nor a name on the hub; give a folder, or a name such as "
            "Qwen/Qwen3-8B."
        ) from None
    if not isinstance(cached, str):
        return _ask_hub(name)
    folder = Path(cached).parent
    return HubModel(folder, None if any(folder.glob(f"*{WEIGHTS}")) else _checkpoint_bytes_if_told(name))


def _ask_hub(name: str) -> HubModel:
    """Ask for the files first: unlike a download, that is not tried again for 20 s where there is no network."""
    from httpx import HTTPError
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, RepositoryNotFoundError

    try:
        checkpoint_bytes = _checkpoint_bytes(name)
        config = hf_hub_download(name, "config.json", etag_timeout=TIMEOUT_SECONDS)
    except GatedRepoError:
        raise ConfigError(
            f"the model {name} is gated; accept its terms on its page of the hub, and set HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        raise ConfigError(
            f"the hub has no model {name} that may be read; correct the name, set HF_TOKEN if it is private, or give "
            "a folder."
        ) from None
    except (OSError, HTTPError, EntryNotFoundError):
        raise ConfigError(
            f"the model {name} is neither a folder, nor in the local hub cache, nor one whose size is known, and the "
            f"hub gave no config.json of it; download it (`hf download {name}`) or give a folder."
        ) from None
    return HubModel(Path(config).parent, checkpoint_bytes)


def _checkpoint_bytes_if_told(name: str) -> int | None:
    from httpx import HTTPError

    try:
        return _checkpoint_bytes(name)
    except (OSError, HTTPError):
        return None


def _checkpoint_bytes(name: str) -> int | None:
    """The size of a model's weights on the hub; None where it has none. Raises the hub's errors."""
    from huggingface_hub import HfApi

    files = HfApi().model_info(name, files_metadata=True, timeout=TIMEOUT_SECONDS).siblings or []
    # Folders below hold the same weights in another format.
    return (
        sum(file.size or 0 for file in files if file.rfilename.endswith(WEIGHTS) and "/" not in file.rfilename) or None
    )
