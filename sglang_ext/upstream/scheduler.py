"""SGLang's scheduler and its queues."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from sglang_ext.upstream.cache import Allocator, RadixCache
from sglang_ext.upstream.request import Request
from sglang_ext.upstream.transfer import KVReceiver

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class ServerArgs(Protocol):
    """`sglang.srt.server_args.ServerArgs`: the command line."""

    disaggregation_mode: str  # "null", "prefill" or "decode"
    disaggregation_decode_enable_radix_cache: bool
    dp_size: int
    enable_deterministic_inference: bool
    speculative_algorithm: str | None
    device: str | None
    gpu_id_step: int
    enable_metrics: bool
    tokenizer_metrics_allowed_custom_labels: list[str] | None
    nnodes: int
    attention_backend: str | None
    sampling_backend: str | None
    sleep_on_idle: bool
    disable_overlap_schedule: bool
    mem_fraction_static: float | None  # of the memory, for weights and KV pool


class ModelConfig(Protocol):
    """`sglang.srt.configs.model_config.ModelConfig`."""

    context_len: int  # tokens
    vocab_size: int
    hidden_size: int
    hf_config: object  # of Transformers


class ParallelState(Protocol):
    """`sglang.srt.distributed.parallel_state_wrapper.ParallelState`: this process's place among all ranks."""

    @property
    def pp_size(self) -> int:
        """Return the number of pipeline stages."""

    @property
    def tp_size(self) -> int:
        """Return the number of tensor-parallel ranks."""

    @property
    def gpu_id(self) -> int:
        """Return the number of this process's GPU among those that it sees."""


class Sender(Protocol):
    """`sglang.srt.managers.scheduler_components.output_sender.SenderWrapper`: a socket to another process."""

    def send_output(self, output: object) -> None:
        """Send one message; does nothing on ranks without the socket."""


class IpcChannels(Protocol):
    """`sglang.srt.managers.scheduler_components.ipc_channels.SchedulerIpcChannels`."""

    @property
    def send_to_tokenizer(self) -> Sender:
        """Return the socket to the HTTP process."""


class Batch(Protocol):
    """`sglang.srt.managers.schedule_batch.ScheduleBatch`: requests of one forward pass."""

    reqs: list[Request]
    batch_is_full: bool  # no request can join before one ends


class PrefillAdder(Protocol):
    """`sglang.srt.managers.schedule_policy.PrefillAdder`: chooses the requests of one prefill batch."""

    rem_total_token_offset: float  # of the tokens that are free or evictable, those it must not count on


class NextBatchPlan(Protocol):
    """`sglang.srt.managers.schedule_batch.NextBatchPlan`: what the scheduler does next."""

    batch_to_run: Batch | None
    running_batch: Batch


class BootstrapQueue(Protocol):
    """`sglang.srt.disaggregation.prefill.PrefillBootstrapQueue`: requests in handshake with their decode server."""

    queue: list[Request]


class DecodeRequest(Protocol):
    """`sglang.srt.disaggregation.decode.DecodeRequest`: a request on a decode server before its KV has arrived."""

    req: Request
    kv_receiver: KVReceiver
    metadata_buffer_index: int  # -1 until it has room


class RequestPool(Protocol):
    """`sglang.srt.mem_cache.memory_pool.ReqToTokenPool`: places for requests."""

    size: int

    def available_size(self) -> int:
        """Return the number of free places."""


class BufferPool(Protocol):
    """`sglang.srt.disaggregation.utils.ReqToMetadataIdxAllocator`: buffers for the first tokens of requests."""

    size: int

    def available_size(self) -> int:
        """Return the number of free buffers."""


class PreallocQueue(Protocol):
    """`sglang.srt.disaggregation.decode.DecodePreallocQueue`: requests that wait for room on a decode server."""

    queue: list[DecodeRequest]
    retracted_queue: list[Request]
    num_reserved_decode_tokens: int  # room that each request is to have for its answer
    req_to_token_pool: RequestPool
    req_to_metadata_buffer_idx_allocator: BufferPool

    @property
    def transfer_queue(self) -> "TransferQueue":
        """Return the requests that have room and wait for their KV."""


class TransferQueue(Protocol):
    """`sglang.srt.disaggregation.decode.DecodeTransferQueue`: requests whose KV is on its way."""

    queue: list[DecodeRequest]
    tree_cache: RadixCache
    gloo_group: "ProcessGroup"  # of the ranks that hold parts of the same KV
    scheduler: "Scheduler"

    def pop_transferred(self, rids_to_check: list[str] | None = None) -> list[Request]:
        """End the transfers that are complete, of all requests or of those with these ids; return their requests."""


class Scheduler(Protocol):
    """`sglang.srt.managers.scheduler.Scheduler`: one a process; decides each forward pass."""

    server_args: ServerArgs
    model_config: ModelConfig
    ps: ParallelState
    ipc_channels: IpcChannels
    max_total_num_tokens: int  # of the KV pool
    max_req_input_len: int
    page_size: int
    tree_cache: RadixCache
    token_to_kv_pool_allocator: Allocator
    running_batch: Batch
    waiting_queue: list[Request]
    chunked_req: Request | None  # the one request between two chunks of its prefill
    chunked_prefill_size: int | None  # tokens
    enable_lora: bool
    req_to_token_pool: RequestPool
    enable_overlap: bool  # plans a pass while the last one is on the GPU
    last_batch: Batch | None
    disagg_prefill_bootstrap_queue: BootstrapQueue | None  # None on other servers, as the next three
    disagg_prefill_inflight_queue: list[Request] | None
    disagg_decode_prealloc_queue: PreallocQueue | None
    disagg_decode_transfer_queue: TransferQueue | None
    _pending_chunked_abort_req: Request | None

    def get_num_allocatable_reqs(self, running_bs: int) -> int:
        """Return how many requests may start beside `running_bs` running ones."""

    def process_pending_chunked_abort(self) -> None:
        """Abort `_pending_chunked_abort_req` if it is `chunked_req`."""


class InternalState(Protocol):
    """`sglang.srt.managers.io_struct.GetInternalStateReqOutput`: one scheduler's part of `/server_info`."""

    internal_state: dict[str, Any]


class TokenizerManager(Protocol):
    """`sglang.srt.managers.tokenizer_manager.TokenizerManager`: checks and tokenizes, in the HTTP process."""

    model_config: ModelConfig
    server_args: ServerArgs
    sampling_params_class: type
    tokenizer: object | None  # None where the server was started without
    rid_to_state: Mapping[str, object]  # requests that have not ended
