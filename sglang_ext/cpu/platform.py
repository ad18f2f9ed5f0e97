"""The platform class: device type "cpu", every operator in plain PyTorch."""

import logging
from typing import Any

from sglang.srt.platforms.cpu import CpuDeviceMixin
from sglang.srt.platforms.device_mixin import PlatformEnum
from sglang.srt.platforms.interface import SRTPlatform

from sglang_ext.upstream.scheduler import ServerArgs

logger = logging.getLogger(__name__)


class TorchCpuPlatform(CpuDeviceMixin, SRTPlatform):  # type: ignore[misc]
    """An out-of-tree platform, so that SGLang's operators fall to their `forward_native`."""

    _enum = PlatformEnum.OOT
    device_name = "cpu"
    device_type = "cpu"

    def apply_server_args_defaults(self, server_args: ServerArgs) -> None:
        """Set what every CPU server needs, and defaults that a user may override."""
        server_args.device = "cpu"
        server_args.attention_backend = "torch_native"
        server_args.sampling_backend = "pytorch"
        server_args.sleep_on_idle = True
        if not server_args.disable_overlap_schedule:
            logger.info("The overlap schedule is off on CPU: it records CUDA events.")
            server_args.disable_overlap_schedule = True
        if server_args.mem_fraction_static is None:
            server_args.mem_fraction_static = 0.3

    def get_device(self, device_id: int = 0) -> str:
        """Return the device that `ServerArgs` takes when no `--device` is given."""
        return "cpu"

    def get_torch_profiler_activity_str(self) -> str:
        """Return the name of what `/start_profile` records."""
        return "CPU"

    def get_torch_profiler_activity(self) -> Any:
        """Return the same as PyTorch's value."""
        import torch

        return torch.profiler.ProfilerActivity.CPU

    def get_default_attention_backend(self) -> str:
        """Return the only attention backend without device kernels."""
        return "torch_native"

    def get_mha_kv_pool_cls(self) -> type:
        """Return SGLang's own KV pool, which is plain PyTorch."""
        from sglang.srt.mem_cache.memory_pool import MHATokenToKVPool

        return MHATokenToKVPool  # type: ignore[no-any-return]

    def get_paged_allocator_cls(self) -> type:
        """Return the allocator without Triton kernels."""
        from sglang_ext.cpu.allocator import TorchPagedAllocator

        return TorchPagedAllocator
