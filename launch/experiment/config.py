"""The config of an experiment: its arms, and what all of them share.

launch: h200-dummy               # the launcher's config for the servers; not needed with --router
lengths: chat                    # frozen lengths of answers: chat, reasoning or a file; without it models decide
arms:
  dense: {tree: dense-9-9-1, arm: dense}
  exit: {tree: tree-9-3-1, arm: exit, exit: {rule: q_draw}}
  random: {tree: tree-9-3-1, arm: exit, exits: {like: exit}}
  vote: {tree: {layers: [...]}, answers: 5}
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from launch.config.validation import did_you_mean, first_problem
from launch.errors import ConfigError
from router.moa.tree import Arm as TreeArm
from router.moa.tree_request import MAX_ANSWERS

CONFIGS = Path(__file__).parent / "configs"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
MAX_ARMS = 32


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class GivenExits(_Strict):
    """Early exits that are decided before a run, by the rule `replay`; exactly one of the three ways.

    Attributes:
        rate: The probability that a cluster exits after each answer from the second on.
        like: The arm whose rate so far, by benchmark, number at once and layer, is taken as `rate`.
        runs: The log of an experiment whose decisions are repeated, question by question, `arm` naming its arm.
    """

    rate: Annotated[float, Field(ge=0, le=1)] | None = None
    like: str | None = None
    runs: Path | None = None
    arm: str = "exit"

    @model_validator(mode="after")
    def _one_way(self) -> "GivenExits":
        if [self.rate, self.like, self.runs].count(None) != 2:
            raise ValueError("must have exactly one of rate, like and runs")
        return self


class ArmConfig(_Strict):
    """One arm.

    Attributes:
        tree: A shipped tree's name, or a tree as in trees files, without its name.
        arm: How the tree is run.
        order: Of the answers in readers' prompts.
        exit: The rule of early exit; see `router.early_exit.ExitRule`.
        exits: Early exits decided beforehand, in place of `exit`.
        answers: Final answers of a run; of several the one that most agree with counts.
    """

    tree: str | dict[str, Any]
    arm: str = "splice"
    order: str = "completion"
    exit: dict[str, Any] | None = None
    exits: GivenExits | None = None
    answers: Annotated[int, Field(ge=1, le=MAX_ANSWERS)] = 1

    @field_validator("arm")
    @classmethod
    def _check_arm(cls, arm: str) -> str:
        if arm not in get_args(TreeArm):
            raise ValueError(f"names the unknown arm {arm!r}{did_you_mean(arm, list(get_args(TreeArm)))}")
        return arm

    @model_validator(mode="after")
    def _check_exits(self) -> "ArmConfig":
        if (self.exit is not None or self.exits is not None) and self.arm != "exit":
            raise ValueError(f"has early exits, but its arm is {self.arm}; write arm: exit")
        if self.exit is not None and self.exits is not None:
            raise ValueError("has both exit and exits; leave one out")
        return self


class ExperimentConfig(_Strict):
    """The arms and what they share.

    Attributes:
        launch: A config of the launcher, by name or as a file beside this one.
        arms: By name, in the order of tables and pictures.
        lengths: A frozen trace of lengths, by name or as a file beside this one; every agent then answers as many
            tokens as it says. None lets the models decide.
        scale: Factor for these lengths.
        layer: The layer of trees, from 0, whose time counts, in place of the whole run's: that of its slowest agent,
            from the end of what it reads to its own. Prompts of a first layer may so be as long as wanted.
        ms_per_token: By model, for bounds; others are measured.
        sizes: Of models behind a router that was started by hand, for roles by size.
        gpus: GPUs behind it.
        timeout: Seconds that one run may take.
        warm_up: Runs of each arm at the start of every session, which do not count.
        agent_texts: Whether the log keeps what each agent said, for `decision_agreement`; some kilobytes a run.
    """

    launch: str | None = None
    arms: Annotated[dict[str, ArmConfig], Field(min_length=1, max_length=MAX_ARMS)]
    lengths: str | None = None
    scale: Annotated[float, Field(gt=0, le=1000)] = 1.0
    layer: Annotated[int, Field(ge=0)] | None = None
    ms_per_token: dict[str, Annotated[float, Field(gt=0)]] = {}
    sizes: dict[str, Annotated[float, Field(gt=0)]] = {}
    gpus: Annotated[int, Field(ge=0)] | None = None
    timeout: Annotated[float, Field(gt=0, le=86400)] = 3600.0
    warm_up: Annotated[int, Field(ge=0, le=100)] = 0
    agent_texts: bool = False

    @model_validator(mode="after")
    def _check_arms(self) -> "ExperimentConfig":
        wrong = next((name for name in self.arms if not _NAME.match(name)), None)
        if wrong is not None:
            raise ValueError(f"has an arm called {wrong!r}; use letters, digits, '.', '_' and '-'")
        for name, arm in self.arms.items():
            like = arm.exits.like if arm.exits is not None else None
            if like is not None and (like not in self.arms or self.arms[like].arm != "exit" or like == name):
                raise ValueError(f"has the arm {name} like {like!r}, which is no other arm that exits")
        return self


def fingerprint(told: object) -> str:
    """A hash of anything that JSON can tell."""
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def load_experiment(path: Path) -> tuple[ExperimentConfig, Path]:
    """Read a config file, or a shipped one by its name; the second is its folder, where relative paths begin.

    Raises:
        ConfigError: One sentence that names the file, the key and what is allowed.
    """
    shipped = CONFIGS / f"{path}.yaml"
    file = shipped if not path.exists() and path.name == str(path) and shipped.exists() else path
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        names = ", ".join(sorted(each.stem for each in CONFIGS.glob("*.yaml")))
        raise ConfigError(f"the config {file} cannot be read: {reason}; shipped: {names}.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: this is not YAML or JSON: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{file}: the file must be a mapping with the keys {', '.join(ExperimentConfig.model_fields)}."
        )
    try:
        return ExperimentConfig.model_validate(content), file.parent
    except ValidationError as error:
        raise ConfigError(f"{file}: {first_problem(error, ExperimentConfig)}.") from None
