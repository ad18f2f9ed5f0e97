"""What speculative prefill saves on a running pair: `python -m router.bench.speculative_prefill --router URL`.

It measures the time to first token (TTFT) of

- a cold prompt, and a short one;
- a dependent: a prompt as long, which ends with the answer of an upstream that decodes on the same pair. Its time
  counts from the upstream's last token;
- several dependents at once;
- ordinary requests beside an upstream, with a dependent and without.

Dependents wait for the whole answer (blocking), or are prefilled in segments as on any SGLang (fallback) or with the
overlay. Every prompt is fresh random token ids, so nothing is cached.

Ordinary requests come in rounds. In each round they come at the same random times in every mode, one mode after the
other, with another mode first in each round. With `--prefill-log`, their durations on the prefill server are read
from its log (it must run with `--enable-request-time-stats-logging`).
"""
