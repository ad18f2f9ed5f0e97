"""Metrics of the peers that this router has not, each with the reason."""

_BY_REASON: tuple[tuple[str, str], ...] = (
    (
        "nothing is stored here",
        """smg_db_connections_active smg_db_items_stored smg_db_operation_duration_seconds smg_db_operations_total
        smg_history_memory_records""",
    ),
    (
        "no tools are called",
        """smg_mcp_servers_active smg_mcp_tool_calls_total smg_mcp_tool_duration_seconds
        smg_mcp_tool_iterations_total""",
    ),
    (
        "of gRPC workers only",
        "smg_router_generation_duration_seconds smg_router_stage_duration_seconds smg_router_tokens_total "
        "smg_router_tpot_seconds",
    ),
    (
        "of vLLM's transfers between gRPC workers only",
        """smg_pd_kv_connector_mode_total smg_pd_kv_transfer_duration_seconds smg_pd_kv_transfer_failures_total""",
    ),
    ("both legs are sent at once, so it would be `smg_pd_ttft_seconds`", "smg_pd_decode_ttft_seconds"),
    (
        "bootstrap ports are not probed; a leg that fails is in `smg_worker_errors_total`",
        "smg_pd_rendezvous_failures_total",
    ),
    (
        "a body that can take no bootstrap fields is a 400 before any server is chosen",
        "smg_pd_bootstrap_failures_total",
    ),
    (
        "see `smg_worker_requests_active` and, of those that wait, `moa_pair_places_waiting`",
        "smg_pd_prefill_admission_inflight smg_pd_prefill_admission_wait_seconds",
    ),
    (
        "a silent worker is asked whether it works; see `moa_worker_wedged`",
        "smg_worker_liveness_fallback_total smg_worker_stall_transitions_total",
    ),
    ("smg declares it and never sets it; see `smg_worker_requests_active`", "smg_worker_connections_active"),
    ("workers are spoken to in HTTP/1.1", "smg_worker_http2"),
    (
        "every body is read whole before a worker is chosen, and kept for retries",
        "smg_router_request_body_path_total smg_router_request_buffers_released_early_bytes_total",
    ),
    (
        "servers' KV events are read and told by `moa_worker_kv_blocks` and the like, without an index of blocks",
        """smg_kv_event_apply_seconds smg_kv_event_batches_total smg_kv_event_blocks_total smg_kv_event_gaps_total
        smg_kv_event_lag_seconds smg_kv_event_missed_batches_total smg_kv_event_parentless_blocks_total
        smg_kv_event_parentless_stores_total smg_kv_event_resyncs_total smg_kv_event_subscription_failures_total
        smg_kv_index_arena_bytes smg_kv_index_arena_free_bytes smg_kv_index_entries smg_kv_index_lookup_seconds
        smg_kv_index_slab_bytes""",
    ),
    ("texts and token ids are in one tree; see `smg_cache_tree_chars`", "smg_cache_tree_tokens"),
    ("cache_aware has no index of hashes", "smg_cache_placement_entries"),
    (
        "images, sound and video are fetched and processed by the servers",
        """smg_mm_pixel_cache_bytes smg_mm_pixel_cache_entries smg_mm_pixel_cache_evictions_total
        smg_mm_pixel_cache_hits_total smg_mm_pixel_cache_misses_total smg_mm_processing_total
        smg_mm_shm_write_failures_total smg_mm_tensor_bytes_total smg_mm_tensors_total""",
    ),
    (
        "the servers tokenize and detokenize",
        """smg_detokenize_prefix_mismatch_total smg_tokenizer_cache_evictions_total smg_tokenizer_cache_lookups_total
        smg_tokenizer_cache_reused_bytes_total smg_tokenizer_encode_fallbacks_total
        smg_tokenizer_encode_path_loads_total""",
    ),
    (
        "weights are changed at the servers themselves",
        """smg_rl_control_call_duration_seconds smg_rl_control_calls_total smg_rl_fanout_duration_seconds
        smg_rl_fanout_total""",
    ),
    (
        "there are no classes of priority; see `smg_admission_inflight`",
        """smg_scheduler_admit_total smg_scheduler_clamp_total smg_scheduler_inflight smg_scheduler_preemption_total
        smg_scheduler_queue_depth smg_scheduler_starvation_promotion_total
        smg_scheduler_unknown_priority_value_total""",
    ),
    (
        "of jemalloc, which Python has not",
        """smg_allocator_active_bytes smg_allocator_allocated_bytes smg_allocator_metadata_bytes
        smg_allocator_resident_bytes""",
    ),
    (
        "an event loop of Python has one thread; see `smg_tokio_event_loop_delay_seconds`",
        "smg_tokio_global_queue_depth smg_tokio_worker_busy_ratio smg_tokio_worker_parks_total smg_tokio_workers",
    ),
)

ABSENT_METRICS: dict[str, str] = {name: reason for reason, names in _BY_REASON for name in names.split()}
