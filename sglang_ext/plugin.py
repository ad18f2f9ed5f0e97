"""The entry point `sglang.srt.plugins`: SGLang calls `register` in each of its processes."""

import pkgutil

from sglang_ext import cpu
from sglang_ext.errors import NotApplied, OverlayError
from sglang_ext.fixes.kv_pool import kv_pool_bytes
from sglang_ext.open_prompt import settings
from sglang_ext.patches import PATCHES
from sglang_ext.patching.apply import apply_patches, stop_process
from sglang_ext.patching.patch import Hook, Patch
from sglang_ext.patching.verify import first_line


def register() -> None:
    """Apply the patches that this process needs.

    If one does not fit, or anything else fails, print one sentence to stderr and exit with code 2.
    """
    try:
        settings.Settings.from_environment()
        kv_pool_bytes()
        apply_patches(patches_for_this_process(), hook_of)
    except OverlayError as error:
        stop_process(error)
    except Exception as error:
        cause = f"{type(error).__name__}: {first_line(error)}"
        stop_process(NotApplied(f"sglang_ext could not load its patches ({cause}); reinstall faster-moa."))


def patches_for_this_process() -> list[Patch]:
    """Select from the list by platform, and by whether open prompts are enabled."""
    from sglang.srt.platforms import current_platform

    on_cpu, open_prompts = cpu.is_active(current_platform), settings.enabled()
    return [
        patch
        for patch in PATCHES
        if (on_cpu or not patch.cpu_only) and (open_prompts or not patch.is_in("sglang_ext.open_prompt"))
    ]


def hook_of(patch: Patch) -> Hook:
    """Import a patch's hook by its name. Hooks import PyTorch and SGLang, which only a server may load."""
    hook: Hook = pkgutil.resolve_name(patch.hook)
    return hook
