"""How large a model is: its weights, and its KV cache per token.

The table holds the published shapes of the models that the launcher knows by name, so that a plan
needs no network. Any other model is read from its folder.
"""

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.errors import ConfigError

if TYPE_CHECKING:
    from launch.config import ModelConfig


@dataclass(frozen=True)
class Shape:
    """A decoder-only transformer with grouped-query attention and a gated MLP."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    """Whether the output layer is the embedding."""
    qk_norm: bool = True
    """Whether queries and keys have a norm of their own, as in Qwen3."""
    max_context: int | None = None
    """The longest context the model was made for, in tokens, where that is known."""
    stored_bytes: int | None = None
    """Size of the checkpoint files, where there are any."""
    stored_dtype_bytes: int = 2
    """Bytes per parameter in those files."""

    @property
    def params(self) -> int:
        """The number of parameters."""
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        norms = 2 * self.hidden + (2 * self.head_dim if self.qk_norm else 0)
        layer = attention + 3 * self.hidden * self.intermediate + norms
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * layer + self.hidden

    def weight_bytes(self, dtype_bytes: int = 2) -> int:
        """Bytes of all weights on the device; the checkpoint's own size where it is known."""
        if self.stored_bytes is None:
            return self.params * dtype_bytes
        return self.stored_bytes * dtype_bytes // self.stored_dtype_bytes

    def kv_bytes_per_token(self, dtype_bytes: int = 2) -> int:
        """Bytes of keys and values that one token takes in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * dtype_bytes


_QWEN3_VOCAB = 151936
_QWEN3_CONTEXT = 40960

SHAPES = {
    "qwen3-0.6b": Shape(28, 1024, 16, 8, 128, 3072, _QWEN3_VOCAB, tied=True, max_context=_QWEN3_CONTEXT),
    "qwen3-1.7b": Shape(28, 2048, 16, 8, 128, 6144, _QWEN3_VOCAB, tied=True, max_context=_QWEN3_CONTEXT),
    "qwen3-4b": Shape(36, 2560, 32, 8, 128, 9728, _QWEN3_VOCAB, tied=True, max_context=_QWEN3_CONTEXT),
    "qwen3-8b": Shape(36, 4096, 32, 8, 128, 12288, _QWEN3_VOCAB, tied=False, max_context=_QWEN3_CONTEXT),
    "qwen3-14b": Shape(40, 5120, 40, 8, 128, 17408, _QWEN3_VOCAB, tied=False, max_context=_QWEN3_CONTEXT),
    "qwen3-32b": Shape(64, 5120, 64, 8, 128, 25600, _QWEN3_VOCAB, tied=False, max_context=_QWEN3_CONTEXT),
    "smollm2-135m": Shape(30, 576, 9, 3, 64, 1536, 49152, tied=True, qk_norm=False, max_context=8192),
}

# Models that come in a PyPI package; `launch.models` prepares them.
PACKAGED = {"builtin:smollm2": "smollm2-135m"}

_HUB = {
    "qwen/qwen3-0.6b": "qwen3-0.6b",
    "qwen/qwen3-1.7b": "qwen3-1.7b",
    "qwen/qwen3-4b": "qwen3-4b",
    "qwen/qwen3-8b": "qwen3-8b",
    "qwen/qwen3-14b": "qwen3-14b",
    "qwen/qwen3-32b": "qwen3-32b",
    "huggingfacetb/smollm2-135m": "smollm2-135m",
    "huggingfacetb/smollm2-135m-instruct": "smollm2-135m",
}


def shape_of(model: "ModelConfig") -> Shape:
    """The shape of a configured model: from the table, its folder, or the local hub cache.

    Raises:
        ConfigError: The model is none of these, or its config.json lacks what is needed.
    """
    if model.shape is not None:
        return SHAPES[model.shape]
    path = model.path or ""
    folder = Path(path)
    if folder.is_dir():
        return _read_shape(folder)
    key = PACKAGED.get(path) or _HUB.get(path.lower())
    if key is not None:
        return SHAPES[key]
    cached = _hub_cache(path)
    if cached is not None:
        return _read_shape(cached)
    raise ConfigError(
        f"the model {path} is neither a folder, nor in the local hub cache, nor one whose size is known; "
        f"download it (`hf download {path}`) or give a folder."
    )


def write_dummy_model(shape_key: str, folder: Path) -> Path:
    """Write the config.json that `--load-format dummy --skip-tokenizer-init` needs; gives `folder`.

    The file appears whole or not at all, so that two launchers may write it at once.

    Raises:
        ConfigError: The shape is unknown, or the folder cannot be written.
    """
    if shape_key not in SHAPES:
        raise ConfigError(f"there is no shape {shape_key}; known are {', '.join(SHAPES)}.")
    target = folder / "config.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=folder, prefix=".config-")
        with os.fdopen(descriptor, "w") as file:
            json.dump(_hf_config(SHAPES[shape_key]), file, indent=2)
        os.replace(name, target)
    except OSError as error:
        raise ConfigError(f"the dummy model folder {folder} cannot be written: {error.strerror}.") from None
    return folder


def _hf_config(shape: Shape) -> dict[str, Any]:
    config = {
        "architectures": ["Qwen3ForCausalLM" if shape.qk_norm else "LlamaForCausalLM"],
        "model_type": "qwen3" if shape.qk_norm else "llama",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocab,
        "tie_word_embeddings": shape.tied,
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


def _read_shape(folder: Path) -> Shape:
    """The shape that a Hugging Face model folder describes."""
    file = folder / "config.json"
    try:
        whole = json.loads(file.read_text(encoding="utf-8"))
        config = whole.get("text_config") or whole
        heads = int(config["num_attention_heads"])
        hidden = int(config["hidden_size"])
        stored = sum(part.stat().st_size for part in folder.glob("*.safetensors"))
        return Shape(
            layers=int(config["num_hidden_layers"]),
            hidden=hidden,
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden // heads),
            intermediate=int(config["intermediate_size"]),
            vocab=int(config["vocab_size"]),
            tied=bool(config.get("tie_word_embeddings", False)),
            qk_norm=str(config.get("model_type", "")).startswith("qwen3"),
            max_context=_max_context(config),
            stored_bytes=stored or None,
            stored_dtype_bytes=_stored_dtype_bytes(whole, config),
        )
    except OSError as error:
        raise ConfigError(f"the model's {file} cannot be read: {error.strerror}.") from None
    except KeyError as error:
        raise ConfigError(
            f"{file}: the key {error.args[0]} is missing; give the folder of a decoder-only language model."
        ) from None
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        raise ConfigError(f"{file}: this is not the config of a decoder-only language model.") from None


def _max_context(config: dict[str, Any]) -> int | None:
    # With rope scaling SGLang derives a longer one; leave that judgement to it.
    longest = config.get("max_position_embeddings")
    return None if longest is None or config.get("rope_scaling") else int(longest)


def _stored_dtype_bytes(whole: dict[str, Any], config: dict[str, Any]) -> int:
    """Bytes per stored parameter; quantized checkpoints are served as they are, so 2 keeps their size."""
    dtype = str(config.get("torch_dtype") or config.get("dtype") or whole.get("torch_dtype") or "")
    return 4 if dtype == "float32" and "quantization_config" not in whole else 2


def _hub_cache(name: str) -> Path | None:
    """The folder of a model in the local Hugging Face cache; the network is not asked."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None
