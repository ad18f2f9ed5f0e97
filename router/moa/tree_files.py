"""Reads trees files, and the shipped trees in the folder `trees/`.

models:                       # default sampling by model, optional
  smollm2-a: {temperature: 0}
sizes: {small: 4.0e9, large: 32.0e9}  # of models, for the roles `largest`, `smallest`, `rank:N`
trees:
  - {name: moa, layers: [...]}  # see `router.moa.tree`
"""

import json
from functools import cache
from pathlib import Path
from typing import Annotated

import yaml
from msgspec import Meta, Struct, field

from router.config.structs import InvalidValue, read_struct
from router.config.yaml_text import load_yaml
from router.errors import BadRequest
from router.moa.model_roles import has_roles, is_role
from router.moa.tree import Sampling, Tree, check_sampling


class Trees(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A configuration file: trees, and of models their default sampling and their sizes.

    Sizes are numbers of parameters, or whatever tells which model is the larger one.
    """

    models: dict[str, Sampling] = field(default_factory=dict)
    sizes: dict[str, Annotated[float, Meta(gt=0)]] = field(default_factory=dict)
    trees: Annotated[tuple[Tree, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        for model, sampling in self.models.items():
            check_sampling(sampling, f"models.{model}: ")
        names = [tree.name for tree in self.trees]
        duplicate = next((name for name in names if names.count(name) > 1), None)
        if duplicate is not None:
            raise ValueError(f"two trees are called {duplicate!r}; names must be unique")
        wrong = next((model for model in self.sizes if is_role(model)), None)
        if wrong is not None:
            raise ValueError(f"`sizes` has {wrong!r}, which is a role; give the names of models")
        sizeless = next((tree.name for tree in self.trees if has_roles(tree)), None)
        if sizeless is not None and not self.sizes:
            raise ValueError(
                f"the tree {sizeless!r} has agents by the sizes of models, which are not given; add `sizes`, such as "
                "{small: 4.0e9, large: 32.0e9}"
            )

    @property
    def need_judge(self) -> bool:
        """Whether a tree ends early by what early exit's judge measures."""
        return any(tree.arm == "exit" and tree.exit.needs_judge for tree in self.trees)


SHIPPED_TREES = Path(__file__).parent / "trees"
DEFAULT_TREE = "tree-3x3-3-1"


def shipped_trees() -> list[str]:
    """Names of the trees that come with the router."""
    return sorted(path.stem for path in SHIPPED_TREES.glob("*.yaml"))


def is_shipped(path: Path | None) -> bool:
    """Whether a name or path, or None for the default, means a file that comes with the router."""
    return path is None or str(path) in shipped_trees()


def load_trees(path: Path | None) -> Trees:
    """Read a YAML or JSON file, or a shipped one by its name; None reads the default tree.

    Raises:
        BadRequest: The file cannot be read or is wrong; one sentence names the file and the key.
    """
    if path is None or is_shipped(path):
        return _read_shipped(str(path or DEFAULT_TREE))
    return _read(path)


@cache
def _read_shipped(name: str) -> Trees:
    return _read(SHIPPED_TREES / f"{name}.yaml")


def _read(path: Path) -> Trees:
    try:
        text = path.read_text()
        value = json.loads(text) if path.suffix == ".json" else load_yaml(text)
    except OSError as error:
        raise BadRequest(
            f"the trees file {path} cannot be read ({error.strerror}); shipped: {', '.join(shipped_trees())}."
        ) from None
    except RecursionError:
        raise BadRequest(f"the trees file {path} is not valid (it is nested too deeply).") from None
    except (ValueError, yaml.YAMLError) as error:
        raise BadRequest(f"the trees file {path} is not valid ({' '.join(str(error).split())}).") from None
    return read_trees(value, f"the trees file {path}")


def read_trees(value: object, source: str) -> Trees:
    """Check parsed YAML or JSON; `source` names it in the error.

    Raises:
        BadRequest: One sentence that names the key and what is wrong with it.
    """
    try:
        return read_struct(Trees, value)
    except InvalidValue as wrong:
        raise BadRequest(f"{source} is wrong at {wrong.path or 'the top'}: {wrong.reason}.") from None
