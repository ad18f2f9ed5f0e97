"""Flags, paths and metrics of sglang-router and smg that differ here, each with what is different."""

_MORE_POLICIES = (
    "every policy for every role, also smg's: least_load, prefix_hash, consistent_hashing, passthrough; and "
    "predicted_latency"
)

_TREES = "`backend_type` is `moa` for trees and named runs"
_ENGINES = "of servers whose load a policy uses: power_of_two, least_load"

FLAGS: dict[str, str] = {
    "--pd-admission-wait-secs": "off unless it is given: without it requests for pairs do not wait for places",
    "--sse-keepalive-secs": "off unless it is given",
    "--worker-overload-token-usage": "off unless it is given, or --worker-overload-protection",
    "--worker-overload-waiting-requests": "off unless it is given",
    "--worker-stale-secs": "three load intervals unless it is given",
    "--worker-wedge-secs": "30 seconds, since a silent worker is first asked whether it works",
    "--cors-allowed-origins": "without it every origin, but for the paths that control the router: those need it",
    "--decode-policy": _MORE_POLICIES,
    "--decode-selector": "what is no KEY=VALUE is refused, not skipped",
    "--disable-health-check": "a worker is still asked who it is until it was found",
    "--enable-trace": "needs the extra `otel`; a client's trace is continued",
    "--eviction-interval-secs": "after so long the prompts of a worker that is no candidate are forgotten; "
    "`--max-tree-size` holds at any time",
    "--health-check-interval-secs": "besides, /server_info is read every `--worker-startup-check-interval`",
    "--assignment-mode": "a random worker for a new key follows from a hash of it, the same in all processes; "
    "min_group counts the keys that are remembered; no `delegate`",
    "--max-idle-secs": "also seconds with a fraction; besides, `--max-routing-keys` holds at any time",
    "--log-level": "`warning` may be written out",
    "--max-concurrent-requests": "a hard limit of requests at once, where sglang-router refills its tokens with time; "
    "0 is refused, as it would let none in",
    "--max-tree-size": "in characters too, and holds at any time; a token id counts as 4, a node of a tree as 256",
    "--pd-disaggregation": "needed with `--prefill` and `--decode`; plain servers may be given beside them",
    "--policy": _MORE_POLICIES,
    "--prefill": "without a port, the server is asked for it",
    "--prefill-policy": _MORE_POLICIES,
    "--prefill-selector": "what is no KEY=VALUE is refused, not skipped",
    "--prometheus-host": "0.0.0.0 without the flag",
    "--routing-key-headers": "the same header without the flag",
    "--prometheus-port": "none by default: /metrics is on the main port, and on this one too if it is given",
    "--rate-limit-tokens-per-second": "requests a second, only if it is given; 429 at once, with Retry-After",
    "--selector": "what is no KEY=VALUE is refused, not skipped, and so is the flag beside `--pd-disaggregation`",
    "--service-discovery": "a pod that is no longer ready goes too; requests of a pod that goes end first",
    "--worker-startup-check-interval": "5 s, and running workers are asked who they are as often",
    "--tls-cert-path": "the ports of `--prometheus-port` and `--health-check-port` stay plain",
    "--api-key": "answers 401 with a JSON error; `/health_generate` needs it too, since it costs a generation; "
    "`--api-keys-file` has keys of single clients",
}

PATHS: dict[str, str] = {
    "GET /health": "JSON with the models that can be served",
    "GET /health_generate": "generates something with each model",
    "GET /readiness": "only after every pair that is there has generated something",
    "GET /get_server_info": "other fields: what each worker holds; that only with the key, where there is one; "
    "with `--api-keys-file` nothing without a key",
    "GET /v1/models": "trees are models too; only with a key where there is `--api-keys-file`",
    "GET /workers": "more fields: role, breaker, draining, generated, problem, and the pairs",
    "POST /workers": "409 for a worker that is here already, 400 for a wrong address or an unknown field; "
    "`priority` and `cost` are noted only",
    "PUT /workers/{id}": "replaces all settings but the address and the type, as smg; PATCH changes some",
    "GET /engine_metrics": "names keep their colons; a worker that gives no metrics is named in a comment",
    "GET /ha/status": "503 always: there is no mesh",
    "DELETE /workers/{id}": "running requests end first",
    "POST /v1/tokenize": "asked of a server of the model",
    "POST /v1/detokenize": "asked of a server of the model",
    "POST /generate": "a client's own bootstrap fields are refused with 400; `n` above 1 works on pairs",
    "POST /v1/chat/completions": "a client's own bootstrap fields are refused with 400; trees are models; "
    "`n` above 1 works on pairs",
    "POST /v1/completions": "a client's own bootstrap fields are refused with 400; `n` above 1 works on pairs",
    "POST /rerank": "plain servers only: a prefill/decode pair runs a model that generates",
    "POST /v1/rerank": "plain servers only: a prefill/decode pair runs a model that generates",
    "POST /v1/embeddings": "plain servers only",
    "POST /v1/classify": "plain servers only",
    "POST /v1/responses": "plain servers only, which store them; a client's own `request_id` is refused",
    "GET /v1/responses/{id}": "asked of the server that made it, which the id names",
    "POST /v1/responses/{id}/cancel": "asked of the server that made it, which the id names",
    "POST /parse/function_call": "by an SGLang server's parser; 400 for one that SGLang has not",
    "POST /parse/reasoning": "by an SGLang server's parser; 400 for one that SGLang has not",
    "GET /v1/tokenizers": "one for each model whose servers tokenize; no `vocab_size`",
    "GET /v1/tokenizers/{id}": "by id or by the model's name; no `vocab_size`",
    "POST /flush_cache": "502 when a worker did not flush",
}

METRICS: dict[str, str] = {
    "smg_pd_admission_window": "only with --pd-admission-wait-secs, of servers that say how many requests they run",
    "smg_pd_admission_waits_total": "only with --pd-admission-wait-secs",
    "smg_pd_admission_sheds_total": "only with --pd-admission-wait-secs",
    "smg_pd_prefill_admission_rejections_total": "`reason` is `full` or `timeout`",
    "smg_worker_overload_fallback_total": "`stage` is prefill, decode or regular",
    "smg_worker_overload_shed_total": "`stage` is prefill, decode or regular; only with --worker-overload-shed",
    "smg_discovery_deregistrations_total": "`reason` also tells pods that are not ready, or changed",
    "smg_discovery_sync_duration_seconds": "of each list of all pods",
    "smg_http_requests_total": "`path` is the route, not what the client made up",
    "smg_http_request_duration_seconds": "`path` is the route, not what the client made up",
    "smg_http_connections_active": "requests being answered, not connections",
    "smg_http_responses_total": "`error_code` has this router's kinds of errors; `path` as in smg",
    "smg_http_connection_timeouts_total": "also `body_read` and `response_write`",
    "smg_admission_inflight": "a tree counts as its agents; like the two below only with `--max-concurrent-requests`",
    "smg_admission_queue_rejected_total": "also `bytes`: the bodies of those that wait are too long together",
    "smg_worker_retry_backoff_seconds": "a histogram, where the peers may give quantiles",
    "smg_worker_health": "1 also means: has generated something, and stays",
    "smg_worker_errors_total": "`error_type` has this router's kinds of errors",
    "smg_worker_cb_outcomes_total": "a leg counts against the worker that failed, not against both",
    "smg_prefix_hash_policy_branch_total": "a prompt without a key is `no_routing_key`, as in smg; none is unserved",
    "smg_consistent_hashing_policy_branch_total": "`implicit_key_hit` as in smg; a target that is not there is an "
    "error of the request and not counted here",
    "smg_router_requests_total": _TREES,
    "smg_router_request_duration_seconds": _TREES,
    "smg_router_request_errors_total": f"{_TREES}; also of streams that failed after they had begun",
    "smg_router_ttft_seconds": f"here for HTTP; the peers have it for gRPC only; {_TREES}",
    "smg_router_upstream_responses_total": "of pairs too: decode's; `error_code` is empty",
    "smg_pd_ttft_seconds": "to the first piece of decode's body, where smg takes its head",
    "smg_cache_aware_policy_branch_total": "only where there is a choice; no `first_healthy_fallback`",
    "smg_cache_tree_chars": "a token id counts as 4 and a node of a tree as 256, as in `--max-tree-size`",
    "smg_cache_tree_tenants": "one tree a worker, `string`, for texts and token ids",
    "smg_tokio_event_loop_delay_seconds": "of asyncio's loop, looked at ten times a second",
    "smg_tokio_event_loop_stalls_total": "of asyncio's loop, looked at ten times a second",
    "smg_tokio_alive_tasks": "asyncio's tasks",
    "smg_worker_requests_total": "also the router's own generations; a batch or a sample counts as often as it is sent",
    "smg_worker_cb_health_readmissions_total": "when the server was restarted; the breaker closes then",
    "smg_worker_routing_keys_active": "with the policy `manual`",
    "smg_discovery_snapshot_errors_total": "of Kubernetes: lists and watches that failed",
    **dict.fromkeys(
        (
            "smg_engine_running_requests",
            "smg_engine_waiting_requests",
            "smg_engine_token_usage",
            "smg_engine_gen_throughput",
            "smg_engine_cache_hit_rate",
            "smg_engine_load_polls_total",
            "smg_engine_pd_kv_transfer_latency_ms",
            "smg_engine_pd_kv_transfer_speed_gb_s",
        ),
        _ENGINES,
    ),
    "smg_engine_pd_prefill_queue_reqs": f"{_ENGINES}; those that wait for decode, and those whose KV is sent",
    "smg_engine_pd_decode_queue_reqs": f"{_ENGINES}; those that wait for room, and those whose KV comes",
}
