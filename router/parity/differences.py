"""Flags, paths and metrics of sglang-router that differ here or are absent, each with what is different or why."""

_MORE_POLICIES = "every policy for every role, also smg's: least_load, prefix_hash, consistent_hashing, passthrough"

FLAGS: dict[str, str] = {
    "--cors-allowed-origins": "without it every origin, but for the paths that control the router: those need it",
    "--decode-policy": _MORE_POLICIES,
    "--decode-selector": "what is no KEY=VALUE is refused, not skipped",
    "--disable-health-check": "a worker is still asked who it is until it was found",
    "--enable-trace": "needs the extra `otel`; a client's trace is continued",
    "--eviction-interval-secs": "after so long the prompts of a worker that is no candidate are forgotten; "
    "`--max-tree-size` holds at any time",
    "--health-check-interval-secs": "besides, /server_info is read every `--worker-startup-check-interval`",
    "--assignment-mode": "a random worker for a new key follows from a hash of it, the same in all processes; "
    "min_group counts the keys that are remembered",
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
    "--prometheus-port": "none by default: /metrics is on the main port, and on this one too if it is given",
    "--rate-limit-tokens-per-second": "requests a second, only if it is given; 429 at once, with Retry-After",
    "--selector": "what is no KEY=VALUE is refused, not skipped, and so is the flag beside `--pd-disaggregation`",
    "--service-discovery": "a pod that is no longer ready goes too; requests of a pod that goes end first",
    "--worker-startup-check-interval": "5 s, and running workers are asked who they are as often",
    "--tls-cert-path": "the port of `--prometheus-port` stays plain",
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
    "smg_discovery_deregistrations_total": "`reason` also tells pods that are not ready, or changed",
    "smg_discovery_sync_duration_seconds": "of each list of all pods",
    "smg_http_requests_total": "`path` is the route, not what the client made up",
    "smg_http_request_duration_seconds": "`path` is the route, not what the client made up",
    "smg_http_connections_active": "requests being answered, not connections",
    "smg_http_responses_total": "`error_code` has this router's kinds of errors",
    "smg_worker_retry_backoff_seconds": "count and sum, no quantiles",
    "smg_worker_health": "1 also means: has generated something, and stays",
    "smg_worker_errors_total": "`error_type` has this router's kinds of errors",
    "smg_worker_cb_outcomes_total": "a leg counts against the worker that failed, not against both",
    "smg_prefix_hash_policy_branch_total": "a prompt without a key is `no_routing_key`, as in smg; none is unserved",
    "smg_consistent_hashing_policy_branch_total": "`implicit_key_hit` as in smg; a target that is not there is an "
    "error of the request and not counted here",
    "smg_router_ttft_seconds": "here for HTTP; sglang-router has it for gRPC only",
}

ABSENT_METRICS: dict[str, str] = {
    **dict.fromkeys(
        (
            "smg_db_connections_active",
            "smg_db_items_stored",
            "smg_db_operation_duration_seconds",
            "smg_db_operations_total",
        ),
        "nothing is stored",
    ),
    **dict.fromkeys(
        (
            "smg_mcp_servers_active",
            "smg_mcp_tool_calls_total",
            "smg_mcp_tool_duration_seconds",
            "smg_mcp_tool_iterations_total",
        ),
        "no tools are called",
    ),
    **dict.fromkeys(
        (
            "smg_router_generation_duration_seconds",
            "smg_router_stage_duration_seconds",
            "smg_router_tokens_total",
            "smg_router_tpot_seconds",
        ),
        "of gRPC workers only",
    ),
    "smg_router_request_errors_total": "see `smg_http_responses_total`, which has the kind of error",
    "smg_router_upstream_responses_total": "see `smg_worker_errors_total` and `smg_worker_cb_outcomes_total`",
    "smg_worker_routing_keys_active": "see `smg_manual_policy_cache_entries`, the keys that are remembered",
    "smg_worker_connections_active": "see `smg_worker_requests_active`",
}
