"""Flags of sglang-router and smg that this router refuses, each with the reason."""

import argparse
from typing import Any

# Each reason is a clause that stands behind "--flag is not supported: ".
_BY_REASON: tuple[tuple[str, str], ...] = (
    (
        "with --dp-aware the load-balancing policy chooses the rank; take --policy least_load",
        "--dp-minimum-tokens-scheduler",
    ),
    ("there is no second, smaller router; leave the flag out", "--mini-lb"),
    ("a worker is looked for until it is removed; leave the flag out", "--worker-startup-timeout-secs"),
    (
        "the router passes text on as it is; give it to the SGLang servers",
        """--chat-template --reasoning-parser --tool-call-parser --parser --tokenizer-cache-enable-l0
        --tokenizer-cache-l0-max-entries --tokenizer-cache-l0-max-memory --tokenizer-cache-enable-l1
        --tokenizer-cache-l1-max-memory""",
    ),
    (
        "images, sound and video are fetched and processed by the servers; leave the flag out",
        """--multimodal-tensor-transport --multimodal-shm-min-bytes --multimodal-max-inflight-bytes
        --mm-per-request-image-limit --mm-processing --mm-pixel-cache-mb --mm-pixel-rdma --mm-allowed-media-domains
        --mm-allow-private-media-hosts --log-mm-timing --rdma-listen-ip --rdma-slot-ttl-s""",
    ),
    ("the router calls no tools; the client does", "--mcp-config-path"),
    ("the router loads no code of others; leave the flag out", "--enable-wasm --storage-hook-wasm-path"),
    (
        "the router stores nothing: a response stays on the server that made it; leave the flag out",
        """--history-backend --history-memory-max-responses --history-memory-max-items --history-memory-retention-secs
        --oracle-wallet-path --oracle-tns-alias --oracle-connect-descriptor --oracle-external-auth --oracle-username
        --oracle-password --oracle-pool-min --oracle-pool-max --oracle-pool-timeout-secs --postgres-db-url
        --postgres-pool-max --postgres-op-timeout-secs --redis-url --redis-pool-max --redis-retention-days
        --redis-op-timeout-secs --schema-config --storage-context-headers""",
    ),
    (
        "background responses are run by the servers; --max-concurrent-requests bounds how many are sent at once",
        "--max-background-responses",
    ),
    (
        "keys with a name, rights and limits each are in a file; give it with --api-keys-file",
        """--control-plane-api-keys --jwt-issuer --jwt-audience --jwt-jwks-uri --jwt-role-mapping --tenant-api-key
        --tenant-rate-limit-enabled --tenant-rate-limit-config --trust-tenant-header --tenant-header-name""",
    ),
    ("the access log has every request; leave the flag out", "--control-plane-audit-enabled"),
    (
        "requests are let in as they come, with a share for each client; take --max-concurrent-requests",
        """--priority-scheduler-enabled --priority-scheduler-default-max-class --priority-scheduler-config
        --priority-scheduler-tenant-metric-top-n""",
    ),
    (
        "pairs have no encode servers; give the whole model to prefill",
        "--epd-disaggregation --encode --encode-policy --encode-selector",
    ),
    (
        "routers do not know each other; put a load balancer before several, or take --workers",
        """--enable-mesh --mesh-server-name --mesh-host --mesh-advertise-host --mesh-port --mesh-peer-urls
        --mesh-tls-ca-cert --mesh-tls-cert --mesh-tls-key --router-selector""",
    ),
    (
        "weights are changed at the servers themselves; ask them directly",
        "--enable-rl --rl-control-timeout-secs --rl-fanout-concurrency",
    ),
    (
        "a server's own name for its model counts; give it with --served-model-name, or in POST /workers as `model_id`",
        "--model-alias --model-id-from",
    ),
    (
        "pods of vLLM are plain servers; --selector finds them",
        "--kv-connector-annotation --kv-engine-id-annotation",
    ),
    ("workers are spoken to over HTTP; give their addresses with --worker-urls", "--zmq-engine-count"),
    ("workers are spoken to in HTTP/1.1; leave the flag out", "--upstream-http2"),
    ("idle connections to workers have fixed times; leave the flag out", "--upstream-pool-idle-timeout-secs"),
    (
        "one limit holds for slow clients; give it with --client-timeout-secs",
        "--header-read-timeout-secs --idle-connection-timeout-secs --stream-body-stall-timeout-secs",
    ),
    (
        "every body is kept for retries; --max-body-bytes-in-flight bounds all of them",
        "--max-buffered-request-bytes",
    ),
    (
        "no policy but `manual` keeps sessions by itself; take --policy manual, or consistent_hashing",
        "--routing-key-override --sticky-sessions",
    ),
    (
        "cache_aware has one prefix tree a worker; take --cache-threshold, --balance-abs-threshold or --max-tree-size",
        """--cache-index --cache-boundaries --cache-ttl-secs --kv-index --block-size --overlap-decay
        --selection-temperature --selection-accounting-ttl-ms --balance-token-usage-threshold
        --overload-token-usage-threshold --worker-warmup-secs --worker-warmup-share --worker-warmup-blocks
        --worker-warmup-thin-ratio --worker-warmup-divert-every""",
    ),
    ("least_load leaves no worker out; take --max-concurrent-requests", "--least-load-max-waiting-requests"),
    ("power_of_two compares requests; take --policy least_load for the wait", "--power-of-two-load-metric"),
    ("a silent worker is asked whether it works, after --worker-wedge-secs; take that", "--worker-stall-secs"),
    (
        "workers are found in Kubernetes and in --workers-file; give others with --worker-urls, or POST /workers",
        "--discovery-provider --discovery-file --discovery-check-interval-secs",
    ),
    ("Python has no jemalloc; leave the flag out", "--jemalloc-prof-dir"),
)

REFUSED_FLAGS: dict[str, str] = {name: reason for reason, names in _BY_REASON for name in names.split()}


class _RefuseFlag(argparse.Action):
    """Exits with the reason."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, name: str | None = None
    ) -> None:
        assert name is not None
        parser.error(f"{name} is not supported: {REFUSED_FLAGS[name]}.")


def add_refused_flags(parser: argparse.ArgumentParser) -> None:
    """Let a parser refuse these flags by name."""
    for name in REFUSED_FLAGS:
        parser.add_argument(name, nargs="*", action=_RefuseFlag, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
