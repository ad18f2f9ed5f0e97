"""Faults of SGLang 0.5.17 that end a server or leave it waiting, fixed or kept away from it.

request_guard     values of one request that would end the server are answered with 400
patterns          regular expressions of clients that would keep the scheduler from everybody else
rooms             two requests with one bootstrap room
grammars          constrained decoding that leaves no token to sample
aborted_logprobs  a refused request that asked for log-probabilities
named_logprobs    log-probabilities of tokens that a request names, in a batch with others and in streams of pairs
message_thread    a prefill server goes on to receive decode's messages after one that it fails at
prefill_restart   decode notices that its prefill server was restarted
kv_pool           the KV pool has its planned size also when a server starts again beside others
prefill_only      a long prefill without a decode partner goes on chunk by chunk
"""
