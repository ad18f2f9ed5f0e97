"""SGLang's radix cache, its KV pool's size and allocators."""

from array import array
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol

from sglang_ext.upstream.request import Request

if TYPE_CHECKING:
    import torch
    from sglang.srt.mem_cache.base_prefix_cache import EvictParams, MatchPrefixParams


class RadixKey(Protocol):
    """`sglang.srt.mem_cache.radix_cache.RadixKey`: the token ids of one node."""

    token_ids: "array[int]"
    extra_key: str | None

    def __len__(self) -> int:
        """Return the number of tokens."""

    def child_key(self, page_size: int) -> Hashable:
        """Return what the node is found by among its parent's children."""


class TreeNode(Protocol):
    """`sglang.srt.mem_cache.radix_cache.TreeNode`: a stretch of tokens whose KV is cached."""

    children: "dict[Hashable, TreeNode]"
    parent: "TreeNode | None"  # None for the root
    key: RadixKey
    value: "torch.Tensor"  # KV slots, int64 of shape [tokens]
    lock_ref: int  # locks on this node or on one below it
    hash_value: list[str] | None  # one a page
    priority: int
    creation_time: float


class MatchResult(Protocol):
    """`sglang.srt.mem_cache.base_prefix_cache.MatchResult`: the longest cached prefix of a prompt."""

    device_indices: "torch.Tensor"  # KV slots, int64 of shape [tokens]
    last_device_node: TreeNode


class Allocator(Protocol):
    """`sglang.srt.mem_cache.allocator.base.BaseTokenToKVPoolAllocator`: hands out KV slots."""

    page_size: int
    need_sort: bool

    def available_size(self) -> int:
        """Return the number of free tokens."""


class PagedAllocator(Allocator, Protocol):
    """`sglang.srt.mem_cache.allocator.paged.PagedTokenToKVPoolAllocator`: hands out whole pages."""

    num_pages: int
    free_pages: "torch.Tensor"  # handed out from the front, int64 of shape [pages]
    release_pages: "torch.Tensor"  # freed since `free_pages` was sorted, int64 of shape [pages]
    is_not_in_free_group: bool

    def merge_and_sort_free(self) -> None:
        """Move `release_pages` to `free_pages` and sort them."""

    def free_group_begin(self) -> None:
        """Collect what is freed from here on."""

    def free_group_end(self) -> None:
        """Free what was collected."""


class PoolConfigurator(Protocol):
    """`sglang.srt.mem_cache.kv_cache_configurator.KVCacheConfigurator`: decides the size of the KV pool."""

    device: str
    gpu_id: int
    mambaish_config: object | None  # of models with linear attention

    def _handle_max_mamba_cache(self, total_rest_memory: float) -> float:
        """Set aside the states of linear attention; GiB in, GiB left out."""


class RadixCache(Protocol):
    """`sglang.srt.mem_cache.radix_cache.RadixCache`: cached KV by token prefix."""

    disable: bool
    page_size: int
    root_node: TreeNode
    token_to_kv_pool_allocator: PagedAllocator

    def match_prefix(self, params: "MatchPrefixParams") -> MatchResult:
        """Find the longest cached prefix."""

    def inc_lock_ref(self, node: TreeNode) -> object:
        """Protect a node and those above it from eviction."""

    def dec_lock_ref(self, node: TreeNode) -> object:
        """Undo one `inc_lock_ref`."""

    def evict(self, params: "EvictParams") -> object:
        """Free least recently used nodes."""

    def evictable_size(self) -> int:
        """Return the number of cached tokens without a lock."""

    def protected_size(self) -> int:
        """Return the number of cached tokens with a lock."""

    def cache_unfinished_req(self, req: Request, **kwargs: Any) -> None:
        """Insert what is computed of a request that goes on."""
