"""Faults of SGLang 0.5.17 that end a server or leave it waiting, fixed or kept away from it.

request_guard     values of one request that would end the server are answered with 400
prefill_restart   decode notices that its prefill server was restarted
kv_pool           the KV pool has its planned size also when a server starts again beside others
prefill_only      a long prefill without a decode partner goes on chunk by chunk
"""
