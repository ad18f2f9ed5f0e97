"""One patch to SGLang."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

Hook = Callable[..., Any]


class Kind(Enum):
    """When a hook runs; the values are those of SGLang's `HookType`.

    BEFORE gets the target's arguments. AFTER gets its result and then its arguments, and replaces the
    result unless it returns None. AROUND gets the target and its arguments, and calls the target itself.
    """

    BEFORE = "before"
    AFTER = "after"
    AROUND = "around"


@dataclass(frozen=True)
class Patch:
    """A hook on one function of SGLang.

    Attributes:
        target: Dotted path of the function.
        kind: When the hook runs.
        hook: `module:function` of ours; `plugin` imports it when the patch is applied.
        reason: Why SGLang's own behaviour is not enough.
        expects: SGLang version -> `verify.fingerprint` of the target's source there.
        cpu_only: Whether only the CPU platform needs it.
    """

    target: str
    kind: Kind
    hook: str
    reason: str
    expects: Mapping[str, str] = field(hash=False)
    cpu_only: bool = False

    def is_in(self, package: str) -> bool:
        """Whether the hook belongs to a package, for instance `sglang_ext.open_prompt`."""
        return self.hook.startswith((f"{package}.", f"{package}:"))
