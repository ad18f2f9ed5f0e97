"""Checks patches against the installed SGLang."""

import hashlib
import inspect
import os
import pkgutil
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from sglang_ext.errors import MissingSymbol, NotApplied, SourceMismatch, UnknownVersion
from sglang_ext.patching.patch import Patch

ALLOW_UNVERIFIED = "SGLANG_EXT_ALLOW_UNVERIFIED"


def fingerprint(function: Callable[..., Any]) -> str:
    """Return the first 16 hex digits of the SHA-256 of a function's dedented source.

    Wrappers made with `functools.wraps` are unwrapped first, so another plugin's hook on the same
    target changes nothing. Raises `SourceMismatch` when there is no source to read.
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
    """Return the version of the installed SGLang."""
    from sglang.version import __version__

    return str(__version__)


def resolve(target: str) -> Callable[..., Any]:
    """Return the object at a dotted path; raises `MissingSymbol` when there is none."""
    try:
        found: Callable[..., Any] = pkgutil.resolve_name(target)
    except Exception as error:  # an import runs code that may raise anything
        raise MissingSymbol(
            f"sglang_ext patches {target}, which the installed software does not have ({first_line(error)}); "
            f"install a verified version, or set {ALLOW_UNVERIFIED}=1 to go on without this patch at your own risk."
        ) from error
    return found


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, to be quoted in a sentence."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def verify(patch: Patch) -> None:
    """Check one patch against the installed SGLang.

    Raises:
        UnknownVersion: SGLang's version is not in `patch.expects`.
        MissingSymbol: The target does not exist.
        SourceMismatch: The target's source is not the verified one for this version.
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
    """Raise `NotApplied` if the target of any patch is still the original function.

    SGLang's registry only logs a hook that it could not apply.
    """
    for patch, original in originals.items():
        if resolve(patch.target) is original:
            raise NotApplied(
                f"sglang_ext could not apply its patch of {patch.target}; "
                "SGLang's log has the cause, and the server cannot run without the patch."
            )


def unverified_allowed() -> bool:
    """Whether SGLANG_EXT_ALLOW_UNVERIFIED permits patches that were not verified."""
    return os.environ.get(ALLOW_UNVERIFIED, "") not in ("", "0")
