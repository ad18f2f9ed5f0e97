"""Hands patches to SGLang's hook registry."""

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, Protocol

from sglang_ext.errors import MissingSymbol, OverlayError, UnknownVersion
from sglang_ext.patching.patch import Hook, Patch
from sglang_ext.patching.verify import check_applied, resolve, unverified_allowed, verify

logger = logging.getLogger(__name__)

_active: dict[Patch, Callable[..., Any]] = {}  # patch -> the original function
_unverified: list[str] = []


class Registry(Protocol):
    """`sglang.srt.plugins.hook_registry.HookRegistry`: used as a class, never instantiated."""

    apply_hooks: Callable[[], None]

    def register(self, target: str, hook: Callable[..., Any], hook_type: object) -> None:
        """Remember a hook until `apply_hooks` is called."""


def active_patches() -> list[Patch]:
    """Return the patches applied in this process."""
    return list(_active)


def unverified_patches() -> list[str]:
    """Return the targets of patches that do not fit but were allowed by the operator."""
    return list(_unverified)


def apply_patches(patches: Iterable[Patch], hook_of: Callable[[Patch], Hook]) -> None:
    """Verify patches and register their hooks with SGLang, which applies them after all plugins have loaded.

    Args:
        patches: What to apply.
        hook_of: Returns a patch's hook. It is called once SGLang's modules are imported and the patches verified.

    Raises:
        OverlayError: A patch does not fit and `SGLANG_EXT_ALLOW_UNVERIFIED` is not set.
    """
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    _active.update({patch: resolve(patch.target) for patch in patches if _can_apply(patch)})
    for patch in _active:
        HookRegistry.register(patch.target, hook_of(patch), HookType(patch.kind.value))
    _check_after_apply(HookRegistry)


def stop_process(error: OverlayError) -> NoReturn:
    """Print the error to stderr and exit with code 2: SGLang logs and ignores a plugin that raises."""
    print(error, file=sys.stderr, flush=True)
    sys.exit(2)


def _can_apply(patch: Patch) -> bool:
    """Whether to apply a patch; raises `OverlayError` when it does not fit and the operator did not allow that."""
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
            return _target_exists(patch)
    return True


def _target_exists(patch: Patch) -> bool:
    try:
        resolve(patch.target)
    except MissingSymbol as error:
        logger.warning("Unverified: %s", error)
        return False
    return True


def _check_after_apply(registry: Registry) -> None:
    """Add our check to the end of the registry's `apply_hooks`.

    Calling `apply_hooks` here instead would exclude plugins that load later from the same targets.
    """
    apply_hooks = registry.apply_hooks

    def apply_and_check() -> None:
        apply_hooks()
        try:
            check_applied(_active)
        except OverlayError as error:
            stop_process(error)

    registry.apply_hooks = staticmethod(apply_and_check)
