"""The open prompts of this process's scheduler.

SGLang runs one scheduler a process, and several of the patched objects do not know it, so the way from
them to the open prompts is a variable of this module.
"""

import time
from dataclasses import dataclass
from typing import Any

from sglang_ext.open_prompt.pins import Pins
from sglang_ext.open_prompt.prompts import Limits, Prompts


@dataclass
class _Here:
    scheduler: Any = None
    prompts: Prompts | None = None
    why_not: str = "they are switched off with SGLANG_EXT_OPEN_PROMPTS=0"


_here = _Here()


def attach(result: None, scheduler: Any, *args: Any, **kwargs: Any) -> None:
    """AFTER `Scheduler.init_disaggregation`: everything that open prompts need stands from here on."""
    missing = _missing(scheduler)
    _here.scheduler, _here.prompts, _here.why_not = scheduler, None, missing or ""
    if missing is None:
        limits = Limits.from_environment()
        pins = Pins(scheduler.tree_cache, budget=int(limits.fraction * scheduler.max_total_num_tokens))
        _here.prompts = Prompts(scheduler.max_req_input_len, pins, limits, time.monotonic)


def _missing(scheduler: Any) -> str | None:
    """Why a server has no open prompts; None when it has."""
    from sglang.srt.disaggregation.utils import DisaggregationMode
    from sglang.srt.mem_cache.radix_cache import RadixCache

    arguments = scheduler.server_args
    if scheduler.disaggregation_mode == DisaggregationMode.NULL:
        return "it is neither a prefill nor a decode server"
    if type(scheduler.tree_cache) is not RadixCache or scheduler.tree_cache.disable:
        return f"its cache is {type(scheduler.tree_cache).__name__}, not an enabled RadixCache"
    if (
        scheduler.disaggregation_mode == DisaggregationMode.DECODE
        and not arguments.disaggregation_decode_enable_radix_cache
    ):
        return "it runs without --disaggregation-decode-enable-radix-cache"
    if arguments.dp_size > 1:
        return "it runs with data parallelism"
    if arguments.speculative_algorithm is not None:
        return "it runs with speculative decoding"
    return None


def scheduler() -> Any:
    """This process's scheduler; None in a process that has none."""
    return _here.scheduler


def prompts() -> Prompts | None:
    """Its open prompts; None where there are none."""
    return _here.prompts


def why_not() -> str:
    """Why there are none, to stand behind 'this server has no open prompts:'."""
    return _here.why_not
