"""The launcher's config: which models to serve, and how."""

import os
import re
import shutil
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

from launch.config.engines import ENGINES, SAMPLING_PARAMETERS, Engine
from launch.config.reserved_flags import refuse_reserved_flags, refuse_router_flags
from launch.config.validation import did_you_mean
from launch.models.shapes import PACKAGED, SHAPES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DTYPES = ["auto", "half", "float16", "bfloat16", "float", "float32"]


def _name_or_mapping(value: Any) -> Any:
    if value is None or isinstance(value, str | dict):
        return value
    raise ValueError(f"must be the name of a shipped tree or a mapping, not {value!r}")


ServerArgs = Annotated[list[str], AfterValidator(refuse_reserved_flags)]


class _Strict(BaseModel):
    # YAML reads `OMP_NUM_THREADS: 1` as a number where text is meant.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class ModelConfig(_Strict):
    """One model, served by one pair or one plain server."""

    name: str
    """The name that clients ask for; also used in file names."""
    path: str | None = None
    """A folder, a hub name, or `builtin:smollm2`. A relative folder starts at the config file."""
    shape: str | None = None
    """Instead of `path`: dummy weights in the shape of this known model."""
    engine: Engine = "sglang"
    disaggregated: bool | None = None
    """Whether a prefill and a decode server share the work, rather than one plain server does all of it. None is true
    for SGLang; vLLM's servers are always plain."""
    vllm_python: str | None = None
    """The Python of the environment that has vLLM; None is the config's. A relative path starts at the config file."""
    sampling: dict[str, Any] = {}
    """Sampling parameters, as SGLang names them, for requests that set none."""
    tp: int = Field(default=1, ge=1)
    """Tensor parallel size: GPUs that each of its servers spans."""
    dtype: str = "auto"
    server_args: list[str] = []
    """More flags for its servers, as their engine names them."""
    prefill_args: ServerArgs = []
    decode_args: ServerArgs = []

    @property
    def is_plain(self) -> bool:
        """Whether one plain server serves it, and no pair."""
        return self.engine == "vllm" or self.disaggregated is False

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

    @field_validator("engine", mode="before")
    @classmethod
    def _check_engine(cls, engine: Any) -> Any:
        if engine not in ENGINES:
            raise ValueError(f"names the unknown engine {engine!r}{did_you_mean(str(engine), ENGINES)}")
        return engine

    @field_validator("vllm_python")
    @classmethod
    def _check_vllm_python(cls, python: str | None, info: ValidationInfo) -> str | None:
        return _resolve_python(python, info)

    @field_validator("dtype")
    @classmethod
    def _check_dtype(cls, dtype: str) -> str:
        if dtype not in _DTYPES:
            raise ValueError(f"names the unknown dtype {dtype!r}{did_you_mean(dtype, _DTYPES)}")
        return dtype

    @field_validator("sampling")
    @classmethod
    def _check_sampling(cls, sampling: dict[str, Any]) -> dict[str, Any]:
        known = SAMPLING_PARAMETERS["sglang"]
        for key, value in sampling.items():
            if key not in known:
                raise ValueError(f"has the unknown parameter {key}{did_you_mean(key, known)}")
            if not isinstance(value, int | float):
                raise ValueError(f"must give {key} a number, not {value!r}")
        return sampling

    @model_validator(mode="after")
    def _path_or_shape(self) -> "ModelConfig":
        if (self.path is None) == (self.shape is None):
            raise ValueError("must have exactly one of path and shape")
        return self

    @model_validator(mode="after")
    def _check_engines_fields(self) -> "ModelConfig":
        refuse_reserved_flags(self.server_args, self.engine)
        for key, arguments in (("prefill_args", self.prefill_args), ("decode_args", self.decode_args)):
            if arguments and self.is_plain:
                raise ValueError(f"has {key}, but one plain server does both; use server_args")
        if self.engine == "sglang":
            if self.vllm_python is not None:
                raise ValueError("has vllm_python, but its engine is sglang; add engine: vllm, or leave it out")
            return self
        if self.disaggregated:
            raise ValueError("may not be disaggregated: true, since only SGLang has pairs here; leave it out")
        if self.shape is not None:
            raise ValueError("has a shape, but vLLM's server answers with text and needs a tokenizer; give a path")
        known = SAMPLING_PARAMETERS["vllm"]
        if unknown := [key for key in self.sampling if key not in known]:
            raise ValueError(
                f"has the sampling parameter {unknown[0]}, for which vLLM has no default of a server; send it with "
                f"requests or name it in the tree; a vLLM server's are {', '.join(known)}"
            )
        return self


class LaunchConfig(_Strict):
    """The models and what all their servers share."""

    models: list[ModelConfig] = Field(min_length=1)
    context_length: int = Field(ge=1)
    """Tokens of prompt and answer that one request may have."""
    max_total_tokens: int | None = Field(default=None, ge=1)
    """Upper limit of each server's KV pool, in tokens; None lets the plan choose."""
    attention_backend: str | None = None
    """SGLang's; vLLM's servers do not get it."""
    sampling_backend: str | None = None
    """SGLang's, too."""
    server_args: ServerArgs = []
    """More flags for every SGLang server."""
    vllm_python: str | None = None
    """The Python of the environment that has vLLM; None is the launcher's own."""
    mps: bool = False
    """Let servers that share a GPU use it at the same time, by NVIDIA's Multi-Process Service; not for a CPU."""
    start_in_turn: bool = False
    """Start servers that share a GPU one after the other, and not together; on a CPU, and with vLLM, they always do."""
    env: dict[str, str] = {}
    """More environment variables for every server."""
    router_args: Annotated[list[str], AfterValidator(refuse_router_flags)] = []
    """More flags for the router."""
    tree: Annotated[str | dict[str, Any] | None, BeforeValidator(_name_or_mapping)] = None
    """The name of a shipped tree, or a tree; checked by `launch.moa.trees_file`."""

    @field_validator("vllm_python")
    @classmethod
    def _check_vllm_python(cls, python: str | None, info: ValidationInfo) -> str | None:
        return _resolve_python(python, info)

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
        engines = {model.engine for model in self.models}
        if self.vllm_python is not None and "vllm" not in engines:
            raise ValueError("has vllm_python, but no model with engine: vllm; add one, or leave vllm_python out")
        of_sglang = [key for key in ("attention_backend", "sampling_backend", "server_args") if getattr(self, key)]
        if of_sglang and "sglang" not in engines:
            raise ValueError(
                f"has {of_sglang[0]}, which is for SGLang's servers, but every model runs on vLLM; leave it out, or "
                "give vLLM's own flags in models.N.server_args"
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


def _resolve_python(python: str | None, info: ValidationInfo) -> str | None:
    """The interpreter as an absolute path; the link that makes it a virtual environment's is kept."""
    if python is None:
        return None
    folder = (info.context or {}).get("folder", Path())
    found = shutil.which(python) if "/" not in python else os.path.abspath(folder / Path(python).expanduser())
    if found is None or not os.access(found, os.X_OK) or os.path.isdir(found):
        raise ValueError(
            f"names the interpreter {found or python}, which is no program here; give the python of the environment "
            "that has vLLM, such as /opt/vllm/bin/python"
        )
    return found
