"""The general plugin that SGLang runs in each of its processes."""

import importlib
import logging
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from sglang_ext.errors import MissingSymbol, NotApplied, OverlayError, UnknownVersion
from sglang_ext.open_prompt.prompts import Limits, wanted
from sglang_ext.patch import Patch, check_applied, first_line, resolve, unverified_allowed, verify
from sglang_ext.patches import PATCHES

logger = logging.getLogger(__name__)

_active: dict[Patch, Callable[..., Any]] = {}  # with the function that each patch wraps
_unverified: list[str] = []


def active_patches() -> list[Patch]:
    """The patches applied in this process."""
    return list(_active)


def unverified_patches() -> list[str]:
    """Targets of patches that were applied although their source is not the verified one."""
    return list(_unverified)


def register() -> None:
    """Verify the patches this machine needs and hand them to SGLang's hook registry.

    SGLang logs and ignores a plugin that raises, so a patch that does not fit, or anything else
    that goes wrong, ends the process here, with a sentence on stderr and exit code 2.
    """
    try:
        _register()
    except OverlayError as error:
        _stop(error)
    except Exception as error:
        cause = f"{type(error).__name__}: {first_line(error)}"
        _stop(NotApplied(f"sglang_ext could not load its patches ({cause}); reinstall faster-moa."))


def _register() -> None:
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    Limits.from_environment()
    _active.update({patch: resolve(patch.target) for patch in _wanted() if _fits(patch)})
    for patch in _active:
        module, name = patch.hook.split(":")
        hook = getattr(importlib.import_module(module), name)
        HookRegistry.register(patch.target, hook, HookType(patch.kind.value))
    _check_after_apply(HookRegistry)


def _wanted() -> list[Patch]:
    """The patches for this platform."""
    from sglang.srt.platforms import current_platform

    from sglang_ext.cpu import is_active

    cpu = is_active(current_platform)
    return [
        patch
        for patch in PATCHES
        if (cpu or not patch.cpu_only) and (wanted() or not patch.hook.startswith("sglang_ext.open_prompt."))
    ]


def _fits(patch: Patch) -> bool:
    """Whether to apply a patch; raises `OverlayError` when it does not fit and no risk was taken."""
    try:
        verify(patch)
    except OverlayError as error:
        if not unverified_allowed():
            raise
        logger.warning("Unverified: %s", error)
        _unverified.append(patch.target)
        if isinstance(error, MissingSymbol):
            return False
        if isinstance(error, UnknownVersion):
            return _exists(patch)
    return True


def _exists(patch: Patch) -> bool:
    try:
        resolve(patch.target)
    except MissingSymbol as error:
        logger.warning("Unverified: %s", error)
        return False
    return True


def _check_after_apply(registry: Any) -> None:
    """Let the registry's own apply step end with our check: it only logs a hook that failed.

    Applying early, in `register`, would keep plugins that load after us off the same targets.
    """
    apply_hooks = registry.apply_hooks

    def apply_and_check() -> None:
        apply_hooks()
        try:
            check_applied(_active)
        except OverlayError as error:
            _stop(error)

    registry.apply_hooks = staticmethod(apply_and_check)


def _stop(error: OverlayError) -> NoReturn:
    print(error, file=sys.stderr, flush=True)
    sys.exit(2)
