"""What splicing saves on a running pair: `python -m router.bench.speculative_prefill --router URL [--model NAME]`.

Prints, from one run: the time to the first token (TTFT) of a cold prompt and of a short one; of a
prompt of the same length whose last part is the answer of an upstream that decodes on the same pair,
from the upstream's last token on; of several such prompts at once; and of ordinary requests beside an
upstream with such a dependent and without. Dependents wait for the whole answer (blocking), or are spliced
as on any SGLang (fallback) or with the overlay. Every prompt is fresh random token ids, so nothing is
cached before.

Ordinary requests come in rounds. In each round they come at the same random times in every way, one way
after the other, another one first in each round. With `--prefill-log`, where they waited on the prefill
server is read from its own log (it must run with `--enable-request-time-stats-logging`).
"""
