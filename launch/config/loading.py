"""Reads a config: a file, a shipped one by its name, or the default of a device.

A config is YAML or JSON. The shipped ones are in `launch/configs/`: `cpu` and `gpu` are the defaults, any other is
chosen by its name (`--config h200-dummy`).
"""

import os
import re
from pathlib import Path

import yaml
from pydantic import ValidationError

from launch.config.schema import LaunchConfig, ModelConfig
from launch.config.validation import first_problem
from launch.errors import ConfigError
from launch.machine.inventory import Device
from launch.models.lookup import shape_of

CONFIGS = Path(__file__).parents[1] / "configs"


def load_config(path: Path | None, *, device: Device) -> LaunchConfig:
    """Read a config file; None reads the shipped default for `device`.

    Raises:
        ConfigError: One sentence that names the file, the key and what is allowed.
    """
    file = _find_file(path, device)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"the config {file} cannot be read: {reason}.") from None
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{file}: this is not YAML or JSON{line}: {error.problem}.") from None
    except yaml.YAMLError:
        raise ConfigError(f"{file}: this is not YAML or JSON; it holds a character that neither allows.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: the file must be a mapping with the keys {', '.join(LaunchConfig.model_fields)}.")
    try:
        return LaunchConfig.model_validate(content, context={"folder": file.parent})
    except ValidationError as error:
        raise ConfigError(f"{file}: {first_problem(error, LaunchConfig)}.") from None


def first_models(config: LaunchConfig, count: int) -> LaunchConfig:
    """The config with its first `count` models.

    Raises:
        ConfigError: Fewer are configured, or `count` is not positive.
    """
    if count < 1:
        raise ConfigError(f"--hetero {count} asks for no model; give a number from 1 to {len(config.models)}.")
    if count > len(config.models):
        raise ConfigError(
            f"--hetero {count} asks for {count} models, but the config has {len(config.models)}; "
            "add models to it or ask for fewer."
        )
    return config.model_copy(update={"models": config.models[:count]})


def single_model(path: str, device: Device) -> LaunchConfig:
    """The shipped default for `device` with one model, a folder or a known name, in place of its own.

    The context is shortened to what the model was made for.

    Raises:
        ConfigError: There is no such model, or its size is unknown.
    """
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(path.rstrip("/")).split(":")[-1]).lstrip("._-")
    try:
        model = ModelConfig(name=name.lower() or "model", path=path)
    except ValidationError as error:
        raise ConfigError(f"--model {path}: {first_problem(error, ModelConfig)}.") from None
    default = load_config(None, device=device)
    max_context = shape_of(path=model.path, shape=model.shape).max_context or default.context_length
    return default.model_copy(update={"models": [model], "context_length": min(default.context_length, max_context)})


def _find_file(path: Path | None, device: Device) -> Path:
    """`path` itself, or the shipped config of that name."""
    if path is None:
        return CONFIGS / f"{device}.yaml"
    shipped = CONFIGS / f"{path}.yaml"
    if not path.exists() and path.name == str(path) and shipped.exists():
        return shipped
    return path
