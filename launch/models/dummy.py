"""Model folders without weights, for `--load-format dummy`: only a config.json of the right shape."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from launch.errors import ConfigError
from launch.models.shapes import SHAPES, ModelShape


def write_dummy_model(shape_name: str, folder: Path) -> Path:
    """Write the config.json that `--load-format dummy --skip-tokenizer-init` needs; gives `folder`.

    The file appears whole or not at all, so that two launchers may write it at once.

    Raises:
        ConfigError: The shape is unknown, or the folder cannot be written.
    """
    if shape_name not in SHAPES:
        raise ConfigError(f"there is no shape {shape_name}; known are {', '.join(SHAPES)}.")
    target = folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".config-")
        with os.fdopen(descriptor, "w") as file:
            json.dump(_hf_config(SHAPES[shape_name]), file, indent=2)
        os.replace(name, target)
    except OSError as error:
        raise ConfigError(f"the dummy model folder {folder} cannot be written: {error.strerror}.") from None
    return folder


def _hf_config(shape: ModelShape) -> dict[str, Any]:
    config = {
        "architectures": ["Qwen3ForCausalLM" if shape.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if shape.qk_norm else "llama",
        "hidden_size": shape.hidden_size,
        "intermediate_size": shape.intermediate_size,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab_size,
        "tie_word_embeddings": shape.tied_embeddings,
        "max_position_embeddings": shape.max_context,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }
    if shape.qk_norm:
        return config | {
            "bos_token_id": 151643,
            "eos_token_id": 151645,
            "max_window_layers": shape.layers,
            "rms_norm_eps": 1e-06,
            "rope_scaling": None,
            "rope_theta": 1000000,
            "sliding_window": None,
            "use_sliding_window": False,
        }
    return config | {"bos_token_id": 1, "eos_token_id": 2, "rms_norm_eps": 1e-05, "rope_theta": 100000}
