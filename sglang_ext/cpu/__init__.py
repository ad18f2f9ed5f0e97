"""SGLang on a machine without a GPU: a device platform and the few hooks it needs.

Importing this module imports nothing of SGLang, as SGLang asks of platform plugins.
"""

import os
from typing import Any

NAME = "faster_moa_cpu"
PLATFORM = "sglang_ext.cpu.platform:TorchCpuPlatform"


def activate() -> str | None:
    """The platform's class path where it fits, else None (SGLang's contract for platform plugins).

    It fits when asked for with `SGLANG_PLATFORM=faster_moa_cpu`, and else where PyTorch sees no
    accelerator and SGLang's own CPU engine (`SGLANG_USE_CPU_ENGINE=1`) is not asked for.
    """
    if os.environ.get("SGLANG_PLATFORM") == NAME:
        return PLATFORM
    if os.environ.get("SGLANG_USE_CPU_ENGINE", "0") == "1":
        return None
    import torch

    return None if torch.accelerator.is_available() else PLATFORM


def is_active(platform: Any) -> bool:
    """Whether SGLang's current platform is this one."""
    kind = type(platform)
    return f"{kind.__module__}:{kind.__qualname__}" == PLATFORM
