"""The launcher's config: which models to serve, and how.

A config is YAML or JSON. The shipped ones lie in `launch/configs/`: `cpu` and `gpu` are the defaults,
any other is chosen by its name (`--config h200-dummy`).
"""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from launch.errors import ConfigError, did_you_mean, first_problem
from launch.shapes import PACKAGED, SHAPES, shape_of

Device = Literal["cpu", "gpu"]

_SHIPPED = Path(__file__).parent / "configs"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DTYPES = ["auto", "half", "float16", "bfloat16", "float", "float32"]
# What SGLang's SamplingParams takes without a tokenizer.
_SAMPLING = [
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "frequency_penalty",
    "presence_penalty",
    "repetition_penalty",
    "max_new_tokens",
    "min_new_tokens",
    "ignore_eos",
    "sampling_seed",
]
# The plan is wrong when these are set behind its back.
_OWNED = {
    "--attention-backend": "the key attention_backend",
    "--base-gpu-id": "the plan, which chooses the GPUs",
    "--context-length": "the key context_length",
    "--data-parallel-size": "the plan, which knows no data parallelism",
    "--device": "the plan, which chooses the device",
    "--disaggregation-bootstrap-port": "the plan, which chooses the ports",
    "--disaggregation-mode": "the plan, which makes one server of each kind",
    "--dp": "the plan, which knows no data parallelism",
    "--dp-size": "the plan, which knows no data parallelism",
    "--dtype": "the key models.N.dtype",
    "--gpu-id-step": "the plan, which chooses the GPUs",
    "--host": "the plan, which chooses the host",
    "--max-total-tokens": "the key max_total_tokens",
    "--mem-fraction-static": "the plan, which shares out the memory",
    "--model": "the key models.N.path",
    "--model-path": "the key models.N.path",
    "--nccl-port": "the plan, which chooses the ports",
    "--port": "the plan, which chooses the ports",
    "--sampling-backend": "the key sampling_backend",
    "--served-model-name": "the key models.N.name",
    "--tensor-parallel-size": "the key models.N.tp",
    "--tp": "the key models.N.tp",
    "--tp-size": "the key models.N.tp",
}


def _no_owned_flags(args: list[str]) -> list[str]:
    for arg in args:
        flag = arg.split("=")[0]
        if flag in _OWNED:
            raise ValueError(f"may not set {flag}; it comes from {_OWNED[flag]}")
    return args


def _tree(value: Any) -> Any:
    if value is None or isinstance(value, str | dict):
        return value
    raise ValueError(f"must be the name of a shipped tree or a mapping, not {value!r}")


ServerArgs = Annotated[list[str], AfterValidator(_no_owned_flags)]


class _Strict(BaseModel):
    # YAML reads `OMP_NUM_THREADS: 1` as a number where a person means text.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class ModelConfig(_Strict):
    """One model, served by one pair."""

    name: str
    """The name that clients ask for; also used in file names."""
    path: str | None = None
    """A folder, a hub name, or `builtin:smollm2`. A relative folder starts at the config file."""
    shape: str | None = None
    """Instead of `path`: dummy weights in the shape of this known model."""
    sampling: dict[str, Any] = {}
    """Sampling parameters, as SGLang names them, for requests that set none."""
    tp: int = Field(default=1, ge=1)
    """GPUs that each of the two servers spans."""
    dtype: str = "auto"
    prefill_args: ServerArgs = []
    decode_args: ServerArgs = []

    @field_validator("name")
    @classmethod
    def _usable_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"must be letters, digits, '.', '_' and '-', not {name!r}")
        if name == "moa":
            raise ValueError("may not be 'moa', which is the tree's own name; choose another")
        return name

    @field_validator("path")
    @classmethod
    def _known_path(cls, path: str | None, info: ValidationInfo) -> str | None:
        return None if path is None else _find_model(path, (info.context or {}).get("folder", Path()))

    @field_validator("shape")
    @classmethod
    def _known_shape(cls, shape: str | None) -> str | None:
        if shape is not None and shape not in SHAPES:
            raise ValueError(f"names the unknown shape {shape!r}{did_you_mean(shape, list(SHAPES))}")
        return shape

    @field_validator("dtype")
    @classmethod
    def _known_dtype(cls, dtype: str) -> str:
        if dtype not in _DTYPES:
            raise ValueError(f"names the unknown dtype {dtype!r}{did_you_mean(dtype, _DTYPES)}")
        return dtype

    @field_validator("sampling")
    @classmethod
    def _known_sampling(cls, sampling: dict[str, Any]) -> dict[str, Any]:
        for key, value in sampling.items():
            if key not in _SAMPLING:
                raise ValueError(f"has the unknown parameter {key}{did_you_mean(key, _SAMPLING)}")
            if not isinstance(value, int | float):
                raise ValueError(f"must give {key} a number, not {value!r}")
        return sampling

    @model_validator(mode="after")
    def _one_source(self) -> "ModelConfig":
        if (self.path is None) == (self.shape is None):
            raise ValueError("must have exactly one of path and shape")
        return self


class LaunchConfig(_Strict):
    """The models and what all their servers share."""

    models: list[ModelConfig] = Field(min_length=1)
    context_length: int = Field(ge=1)
    """Tokens of prompt and answer that one request may have."""
    max_total_tokens: int | None = Field(default=None, ge=1)
    """Upper limit of each server's KV pool, in tokens; None lets the plan choose."""
    attention_backend: str | None = None
    sampling_backend: str | None = None
    server_args: ServerArgs = []
    """More flags for every server."""
    env: dict[str, str] = {}
    """More environment variables for every server."""
    router_args: list[str] = []
    """More flags for the router."""
    tree: Annotated[str | dict[str, Any] | None, BeforeValidator(_tree)] = None
    """The name of a shipped tree, or a tree; not read here."""

    @model_validator(mode="after")
    def _consistent(self) -> "LaunchConfig":
        names = [model.name for model in self.models]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"has two models named {twice}; every name must be different")
        if self.max_total_tokens is not None and self.max_total_tokens < self.context_length:
            raise ValueError(
                f"has max_total_tokens {self.max_total_tokens} below context_length "
                f"{self.context_length}; one whole request must fit the pool"
            )
        return self


def load_config(path: Path | None, *, device: Device) -> LaunchConfig:
    """Read a config file; None reads the shipped default for `device`.

    Raises:
        ConfigError: One sentence that names the file, the key and what is allowed.
    """
    file = _locate(path, device)
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"the config {file} cannot be read: {reason}.") from None
    try:
        content = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        where = f" at line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{file}: this is not YAML or JSON{where}: {error.problem}.") from None
    except yaml.YAMLError:
        raise ConfigError(f"{file}: this is not YAML or JSON; it holds a character that neither allows.") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: the file must be a mapping with the keys {', '.join(LaunchConfig.model_fields)}.")
    try:
        return LaunchConfig.model_validate(content, context={"folder": file.parent})
    except ValidationError as error:
        raise ConfigError(f"{file}: {first_problem(error, LaunchConfig)}.") from None


def hetero(config: LaunchConfig, n: int) -> LaunchConfig:
    """The config with its first `n` models.

    Raises:
        ConfigError: Fewer are configured, or `n` is not positive.
    """
    if n < 1:
        raise ConfigError(f"--hetero {n} asks for no model; give a number from 1 to {len(config.models)}.")
    if n > len(config.models):
        raise ConfigError(
            f"--hetero {n} asks for {n} models, but the config has {len(config.models)}; "
            "add models to it or ask for fewer."
        )
    return config.model_copy(update={"models": config.models[:n]})


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
    longest = shape_of(model).max_context or default.context_length
    return default.model_copy(update={"models": [model], "context_length": min(default.context_length, longest)})


def _locate(path: Path | None, device: Device) -> Path:
    """The file meant by `path`: a file, or the bare name of a shipped config."""
    if path is None:
        return _SHIPPED / f"{device}.yaml"
    shipped = _SHIPPED / f"{path}.yaml"
    if not path.exists() and path.name == str(path) and shipped.exists():
        return shipped
    return path


def _find_model(path: str, folder: Path) -> str:
    """`path` made absolute if it is a folder, unchanged if it is a packaged model or a hub name."""
    if path.startswith("builtin:"):
        if path not in PACKAGED:
            raise ValueError(f"names the unknown packaged model {path!r}{did_you_mean(path, list(PACKAGED))}")
        return path
    local = Path(os.path.abspath(folder / Path(path).expanduser()))
    if local.is_dir():
        if not (local / "config.json").is_file():
            raise ValueError(f"names the folder {local}, which has no config.json; give a Hugging Face model folder")
        return str(local)
    if _HUB_NAME.fullmatch(path):
        return path
    raise ValueError(
        f"names the model folder {local}, which does not exist; "
        f"give a folder, a hub name such as Qwen/Qwen3-8B, or {' or '.join(PACKAGED)}"
    )
