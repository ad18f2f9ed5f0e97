"""Makes what the overlay keeps in a process, before anything of SGLang's asks for it."""

from typing import Any

from sglang_ext.fixes.rooms import RoomOwners
from sglang_ext.open_prompt.scheduler_state import open_prompts_of
from sglang_ext.process_state import process_state
from sglang_ext.tokenizer_fingerprint import TokenizerFingerprint
from sglang_ext.transfer.aborts_on_decode import AnswersOfPrefill
from sglang_ext.transfer.aborts_on_prefill import AbortsOnPrefill
from sglang_ext.transfer.page_order import page_order_of
from sglang_ext.transfer.transfer_stats import TransferStats
from sglang_ext.upstream.scheduler import Scheduler, TokenizerManager


def for_scheduler(scheduler: Scheduler, *args: Any, **kwargs: Any) -> None:
    """BEFORE `Scheduler.init_disaggregation`: the cache is there, and the KV manager's threads are not yet."""
    process_state.keep(open_prompts_of(scheduler), TransferStats(), AbortsOnPrefill(), AnswersOfPrefill())
    page_order = page_order_of(scheduler)
    if page_order is not None:
        process_state.keep(page_order)


def for_tokenizer_manager(result: None, manager: TokenizerManager) -> None:
    """AFTER `TokenizerManager.init_tokenizer_and_processor`: the tokenizer is there, and no request has come."""
    process_state.keep(TokenizerFingerprint.of(manager.tokenizer), RoomOwners())
