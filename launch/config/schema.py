"""The launcher's config: which models to serve, and how."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from launch.config.reserved_flags import refuse_reserved_flags
from launch.config.validation import did_you_mean
from launch.models.shapes import PACKAGED, SHAPES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DTYPES = ["auto", "half", "float16", "bfloat16", "float", "float32"]
# What SGLang's SamplingParams accepts without a tokenizer.
_SAMPLING_PARAMETERS = [
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


def _name_or_mapping(value: Any) -> Any:
    if value is None or isinstance(value, str | dict):
        return value
    raise ValueError(f"must be the name of a shipped tree or a mapping, not {value!r}")


ServerArgs = Annotated[list[str], AfterValidator(refuse_reserved_flags)]


class _Strict(BaseModel):
    # YAML reads `OMP_NUM_THREADS: 1` as a number where text is meant.
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
    """Tensor parallel size: GPUs that each of the two servers spans."""
    dtype: str = "auto"
    prefill_args: ServerArgs = []
    decode_args: ServerArgs = []

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"must be letters, digits, '.', '_' and '-', not {name!r}")
        if name == "moa":
            raise ValueError("may not be 'moa', which is the tree's own name; choose another")
        return name

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str | None, info: ValidationInfo) -> str | None:
        return None if path is None else _resolve_path(path, (info.context or {}).get("folder", Path()))

    @field_validator("shape")
    @classmethod
    def _check_shape(cls, shape: str | None) -> str | None:
        if shape is not None and shape not in SHAPES:
            raise ValueError(f"names the unknown shape {shape!r}{did_you_mean(shape, list(SHAPES))}")
        return shape

    @field_validator("dtype")
    @classmethod
    def _check_dtype(cls, dtype: str) -> str:
        if dtype not in _DTYPES:
            raise ValueError(f"names the unknown dtype {dtype!r}{did_you_mean(dtype, _DTYPES)}")
        return dtype

    @field_validator("sampling")
    @classmethod
    def _check_sampling(cls, sampling: dict[str, Any]) -> dict[str, Any]:
        for key, value in sampling.items():
            if key not in _SAMPLING_PARAMETERS:
                raise ValueError(f"has the unknown parameter {key}{did_you_mean(key, _SAMPLING_PARAMETERS)}")
            if not isinstance(value, int | float):
                raise ValueError(f"must give {key} a number, not {value!r}")
        return sampling

    @model_validator(mode="after")
    def _path_or_shape(self) -> "ModelConfig":
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
    tree: Annotated[str | dict[str, Any] | None, BeforeValidator(_name_or_mapping)] = None
    """The name of a shipped tree, or a tree; checked by `launch.moa.trees_file`."""

    @model_validator(mode="after")
    def _check_consistency(self) -> "LaunchConfig":
        names = [model.name for model in self.models]
        duplicate = next((name for name in names if names.count(name) > 1), None)
        if duplicate is not None:
            raise ValueError(f"has two models named {duplicate}; every name must be different")
        if self.max_total_tokens is not None and self.max_total_tokens < self.context_length:
            raise ValueError(
                f"has max_total_tokens {self.max_total_tokens} below context_length "
                f"{self.context_length}; one whole request must fit the pool"
            )
        return self


def _resolve_path(path: str, folder: Path) -> str:
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
