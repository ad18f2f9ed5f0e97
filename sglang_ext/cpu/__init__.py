"""SGLang on a machine without a GPU: a device platform and the few patches it needs.

`activate` is the entry point `sglang.srt.platforms`. Importing this module imports nothing of SGLang, which is
what SGLang requires of platform plugins.
"""

import os

NAME = "faster_moa_cpu"
PLATFORM = "sglang_ext.cpu.platform:TorchCpuPlatform"


def activate() -> str | None:
    """Return the platform's class path if this machine needs it, else None.

    `SGLANG_PLATFORM=faster_moa_cpu` chooses it in any case. Otherwise it is chosen when PyTorch finds no
    accelerator, unless `SGLANG_USE_CPU_ENGINE=1` chooses SGLang's own CPU engine.
    """
    if os.environ.get("SGLANG_PLATFORM") == NAME:
        return PLATFORM
    if os.environ.get("SGLANG_USE_CPU_ENGINE", "0") == "1":
        return None
    import torch

    return None if torch.accelerator.is_available() else PLATFORM


def is_active(platform: object) -> bool:
    """Whether `platform`, SGLang's `current_platform`, is this one."""
    kind = type(platform)
    return f"{kind.__module__}:{kind.__qualname__}" == PLATFORM
