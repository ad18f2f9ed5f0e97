"""Paged KV allocation (page size > 1) without Triton."""

import torch
from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator, alloc_extend_naive
from sglang.srt.utils import get_num_new_pages

from sglang_ext.transfer.page_order import order_before_alloc


class TorchPagedAllocator(PagedTokenToKVPoolAllocator):  # type: ignore[misc]
    """SGLang's allocator with its two Triton kernels replaced by PyTorch.

    Both methods return int64 KV slots. If the pool has too few free pages they return None and take nothing.
    """

    free_pages: torch.Tensor

    def alloc_extend(
        self,
        prefix_lens: torch.Tensor,
        prefix_lens_cpu: torch.Tensor,
        seq_lens: torch.Tensor,
        seq_lens_cpu: torch.Tensor,
        last_loc: torch.Tensor,
        extend_num_tokens: int,
        num_new_pages: int | None = None,
    ) -> torch.Tensor | None:
        """Allocate slots for all new tokens of a batch, shape `[extend_num_tokens]`."""
        if num_new_pages is None:
            num_new_pages = get_num_new_pages(
                seq_lens=seq_lens_cpu, page_size=self.page_size, prefix_lens=prefix_lens_cpu
            )
        order_before_alloc(self, num_new_pages)
        if not self._ensure_free(num_new_pages):
            return None
        slots = torch.empty(extend_num_tokens, dtype=torch.int64, device=self.device)
        alloc_extend_naive(prefix_lens, seq_lens, last_loc, self.free_pages, slots, self.page_size, self.device)
        self.free_pages = self.free_pages[num_new_pages:]
        return slots

    def alloc_decode(
        self, seq_lens: torch.Tensor, seq_lens_cpu: torch.Tensor, last_loc: torch.Tensor
    ) -> torch.Tensor | None:
        """Allocate one slot for each sequence, shape `[batch]`; `seq_lens` includes the new token."""
        starts_page = (seq_lens - 1) % self.page_size == 0
        num_new_pages = int(starts_page.sum())
        if not self._ensure_free(num_new_pages):
            return None
        slots = last_loc.to(torch.int64) + 1
        slots[starts_page] = self.free_pages[:num_new_pages] * self.page_size
        self.free_pages = self.free_pages[num_new_pages:]
        return slots

    def _ensure_free(self, pages: int) -> bool:
        if self.need_sort and pages > len(self.free_pages):
            self.merge_and_sort_free()
        return pages <= len(self.free_pages)
