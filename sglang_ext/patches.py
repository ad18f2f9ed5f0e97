"""Every patch to SGLang and NIXL, in one list.

`python -m sglang_ext` prints it with the fingerprints that the installed versions have.
"""

from sglang_ext.patch import Kind, Patch

PATCHES: tuple[Patch, ...] = (
    Patch(
        target="sglang.srt.managers.scheduler.Scheduler.get_internal_state",
        kind=Kind.AFTER,
        hook="sglang_ext.report:add_scheduler_state",
        reason="/server_info tells which patches are active in the scheduler, and its free KV and queues",
        expects={"0.5.17": "1dac0a0d07204d61"},
    ),
    Patch(
        target="sglang.srt.managers.tokenizer_control_mixin.TokenizerControlMixin.get_internal_state",
        kind=Kind.AROUND,
        hook="sglang_ext.report:add_tokenizer_state",
        reason="/server_info tells which patches are active in the HTTP process",
        expects={"0.5.17": "fa738b263588e46e"},
    ),
    Patch(
        target="sglang.srt.mem_cache.common.maybe_cache_unfinished_req",
        kind=Kind.AROUND,
        hook="sglang_ext.prefill_only:keep_chunk_progress",
        reason="a prefill-only request longer than a chunk prefills its first chunk until the server dies",
        expects={"0.5.17": "1711eac8200b7000"},
    ),
    Patch(
        target="sglang.srt.disaggregation.nixl.conn.NixlKVManager.__init__",
        kind=Kind.BEFORE,
        hook="sglang_ext.cpu.transfer:declare_host_memory",
        reason="the KV pool of a CPU server is host memory; upstream registers it as GPU memory",
        expects={"0.5.17": "1f64b2bfe9e50100"},
        cpu_only=True,
    ),
    Patch(
        target="nixl._api.nixl_agent_config.__init__",
        kind=Kind.BEFORE,
        hook="sglang_ext.cpu.transfer:without_progress_thread",
        reason="NIXL's progress thread spins one core per agent",
        expects={"1.5.1": "9191ddcb185cf9eb"},
        distribution="nixl",
        cpu_only=True,
    ),
    Patch(
        target="sglang.srt.managers.scheduler.Scheduler.on_idle",
        kind=Kind.AFTER,
        hook="sglang_ext.cpu.idle:yield_core",
        reason="the idle loop spins while a transfer is pending",
        expects={"0.5.17": "e376aff5894ed5d8"},
        cpu_only=True,
    ),
    Patch(
        target="sglang.srt.layers.attention.torch_native_backend.TorchNativeAttnBackend._run_sdpa_forward_extend",
        kind=Kind.AROUND,
        hook="sglang_ext.cpu.attention:prefix_aware_extend",
        reason="upstream pads the query to the whole sequence, so a prefix hit saves no attention work",
        expects={"0.5.17": "4cb0ef8b7d4ddd25"},
        cpu_only=True,
    ),
    Patch(
        target="sglang.srt.entrypoints.engine._set_envs_and_config",
        kind=Kind.AFTER,
        hook="sglang_ext.cpu.fork:keep_start_method",
        reason="servers forked from a process that imported SGLang once must fork their own processes too",
        expects={"0.5.17": "18138c830ae1a753"},
        cpu_only=True,
    ),
)
