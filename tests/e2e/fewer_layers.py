"""The first layers of a model as a model of its own: as real to the servers, and several times as fast on a CPU.

Its words make little sense, so it is for tests that compare words or count them, and not for those that read them.
"""

import json
import re
from pathlib import Path

LAYER = re.compile(r"\.layers\.(\d+)\.")


def first_layers(model: Path, count: int, folder: Path) -> Path:
    """Write the first `count` layers of the model in one folder to another one, with all else of it; return that."""
    from safetensors.torch import load_file, save_file  # PyTorch, which takes seconds

    folder.mkdir()
    for file in model.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": count}))
    weights = load_file(model / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if _layer(name) < count}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    return folder


def _layer(name: str) -> int:
    found = LAYER.search(name)
    return -1 if found is None else int(found[1])
