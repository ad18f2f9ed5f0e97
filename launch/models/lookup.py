"""Finds the shape of a model: in the table, in its folder, in the local Hugging Face cache, or on the hub."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from launch.errors import ConfigError
from launch.models.hub import hub_model
from launch.models.shapes import HUB_SHAPES, PACKAGED, SHAPES, ModelShape


def shape_of(*, path: str | None, shape: str | None) -> ModelShape:
    """The shape of a model that is given by the name of a known shape, or by its path.

    Args:
        path: A folder, a hub name, or `builtin:...`.
        shape: A key of `SHAPES`; wins over `path`.

    Raises:
        ConfigError: The model is not found, or its config.json lacks what is needed.
    """
    if shape is not None:
        return SHAPES[shape]
    path = path or ""
    folder = Path(path)
    if folder.is_dir():
        return _read_shape(folder)
    known = PACKAGED.get(path) or HUB_SHAPES.get(path.lower())
    if known is not None:
        return SHAPES[known]
    found = hub_model(path)
    described = _read_shape(found.folder)
    return described if found.checkpoint_bytes is None else replace(described, checkpoint_bytes=found.checkpoint_bytes)


def _read_shape(folder: Path) -> ModelShape:
    """The shape that a Hugging Face model folder describes."""
    file = folder / "config.json"
    try:
        root = json.loads(file.read_text(encoding="utf-8"))
        config = root.get("text_config") or root
        heads = int(config["num_attention_heads"])
        hidden_size = int(config["hidden_size"])
        checkpoint_bytes = sum(part.stat().st_size for part in folder.glob("*.safetensors"))
        return ModelShape(
            layers=int(config["num_hidden_layers"]),
            hidden_size=hidden_size,
            heads=heads,
            kv_heads=int(config.get("num_key_value_heads") or heads),
            head_dim=int(config.get("head_dim") or hidden_size // heads),
            intermediate_size=int(config["intermediate_size"]),
            vocab_size=int(config["vocab_size"]),
            tied_embeddings=bool(config.get("tie_word_embeddings", False)),
            qk_norm=str(config.get("model_type", "")).startswith("qwen3"),
            max_context=_max_context(config),
            checkpoint_bytes=checkpoint_bytes or None,
            checkpoint_dtype_bytes=_checkpoint_dtype_bytes(root, config),
            v_head_dim=_integer(config, "v_head_dim"),
            kv_lora_rank=_integer(config, "kv_lora_rank"),
            qk_rope_head_dim=_integer(config, "qk_rope_head_dim") or 0,
            index_head_dim=(_integer(config, "index_head_dim") or 0) if config.get("index_topk") else 0,
        )
    except OSError as error:
        raise ConfigError(f"the model's {file} cannot be read: {error.strerror}.") from None
    except KeyError as error:
        raise ConfigError(
            f"{file}: the key {error.args[0]} is missing; give the folder of a decoder-only language model."
        ) from None
    except (AttributeError, TypeError, ValueError, ZeroDivisionError):
        raise ConfigError(f"{file}: this is not the config of a decoder-only language model.") from None


def _integer(config: dict[str, Any], key: str) -> int | None:
    return None if config.get(key) is None else int(config[key])


def _max_context(config: dict[str, Any]) -> int | None:
    # With rope scaling SGLang derives a longer context; the launcher does not repeat that.
    positions = config.get("max_position_embeddings")
    return None if positions is None or config.get("rope_scaling") else int(positions)


def _checkpoint_dtype_bytes(root: dict[str, Any], config: dict[str, Any]) -> int:
    """Bytes per parameter in the checkpoint files; 2 keeps the size of quantized ones, which are served as they are."""
    dtype = str(config.get("torch_dtype") or config.get("dtype") or root.get("torch_dtype") or "")
    return 4 if dtype == "float32" and "quantization_config" not in root else 2
