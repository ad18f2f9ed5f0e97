"""One patch to somebody else's code, and how it is verified against what is installed."""

import hashlib
import inspect
import os
import pkgutil
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sglang_ext.errors import MissingSymbol, NotApplied, SourceMismatch, UnknownVersion

ALLOW_UNVERIFIED = "SGLANG_EXT_ALLOW_UNVERIFIED"


class Kind(Enum):
    """How a hook joins its target; the values are those of SGLang's `HookType`."""

    BEFORE = "before"
    AFTER = "after"
    AROUND = "around"


@dataclass(frozen=True)
class Patch:
    """A hook on one upstream function.

    Attributes:
        target: Dotted path of the function, as SGLang's `HookRegistry` takes it.
        kind: When the hook runs.
        hook: `module:function` of ours, imported only when the patch is applied.
        reason: Why upstream's behaviour does not do.
        expects: Version of SGLang -> `fingerprint` of the target's source there.
        cpu_only: Whether only the CPU platform needs it.
    """

    target: str
    kind: Kind
    hook: str
    reason: str
    expects: Mapping[str, str] = field(hash=False)
    cpu_only: bool = False


def fingerprint(function: Callable[..., Any]) -> str:
    """The first 16 hex digits of the SHA-256 of a function's dedented source.

    Wrappers made with `functools.wraps` are looked through, so another plugin's hook on the same
    target does not change the result. Raises `SourceMismatch` when there is no source to read.
    """
    try:
        source = textwrap.dedent(inspect.getsource(inspect.unwrap(function)))
    except (OSError, TypeError) as error:
        raise SourceMismatch(
            f"sglang_ext patches {getattr(function, '__qualname__', function)}, whose source cannot be read "
            f"({error}); install a distribution that carries its Python source, or set {ALLOW_UNVERIFIED}=1 to go "
            "on at your own risk."
        ) from error
    return hashlib.sha256(source.encode()).hexdigest()[:16]


def installed_version() -> str:
    """SGLang's version."""
    from sglang.version import __version__

    return str(__version__)


def resolve(target: str) -> Callable[..., Any]:
    """The object at a dotted path; raises `MissingSymbol` when there is none."""
    try:
        found: Callable[..., Any] = pkgutil.resolve_name(target)
    except Exception as error:  # an import runs code that may raise anything
        raise MissingSymbol(
            f"sglang_ext patches {target}, which the installed software does not have ({first_line(error)}); "
            f"install a verified version, or set {ALLOW_UNVERIFIED}=1 to go on without this patch at your own risk."
        ) from error
    return found


def first_line(error: Exception) -> str:
    """What an error says, short enough to stand inside a sentence."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def verify(patch: Patch) -> None:
    """Check one patch against what is installed.

    Raises:
        UnknownVersion: SGLang's version is not in `patch.expects`.
        MissingSymbol: The target does not exist.
        SourceMismatch: The target's source is not what was verified for this version.
    """
    version = installed_version()
    expected = patch.expects.get(version)
    if expected is None:
        known = " or ".join(patch.expects)
        raise UnknownVersion(
            f"sglang_ext is verified with sglang {known}, but sglang {version} is installed; install "
            f"sglang=={known.split()[-1]}, or set {ALLOW_UNVERIFIED}=1 to go on "
            "at your own risk."
        )
    found = fingerprint(resolve(patch.target))
    if found != expected:
        raise SourceMismatch(
            f"sglang_ext patches {patch.target}, whose source in sglang {version} is not the verified "
            f"one (fingerprint {found}, expected {expected}); reinstall sglang=={version}, or set "
            f"{ALLOW_UNVERIFIED}=1 to go on at your own risk."
        )


def check_applied(originals: Mapping[Patch, Callable[..., Any]]) -> None:
    """Raise `NotApplied` unless every patch's target is no longer the original function.

    SGLang's registry only logs a hook that it could not apply.
    """
    for patch, original in originals.items():
        if resolve(patch.target) is original:
            raise NotApplied(
                f"sglang_ext could not apply its patch of {patch.target}; "
                "SGLang's log has the cause, and the server cannot run without the patch."
            )


def unverified_allowed() -> bool:
    """Whether the operator took the risk of unverified patches."""
    return os.environ.get(ALLOW_UNVERIFIED, "") not in ("", "0")
