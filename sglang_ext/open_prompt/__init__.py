"""Open prompts: a prompt is prefilled, and its KV sent to the decode server, before its end is known.

The carrier is the ordinary `/generate` of both servers of a pair, each time with the same body:

    {"input_ids": [...],                        the tokens from `at` on
     "bootstrap_host": ..., "bootstrap_port": ..., "bootstrap_room": ...,
     "sampling_params": {"max_new_tokens": 0,
                         "custom_params": {"open_prompt": {"id": "...", "op": "append", "at": 0}}}}

The servers keep a prompt's token ids, so only what is new travels. `at` says how many of the tokens they
have still hold: less than they have takes the rest back. Operations:

append   A segment. Answered, with no tokens, once both servers have the KV in their radix caches.
final    The last tokens, with the real sampling parameters: an ordinary request from here on.
close    Forget the prompt; nothing is prefilled. Unknown ids are closed already.

What a server promises:

- A segment never delays an ordinary request by more than one chunk of `SGLANG_EXT_SEGMENT_CHUNK` tokens
  (`prefill.py`). Nothing is sampled for it, no logits are computed and the detokenizer is not asked.
- The pages of an open prompt are pinned in the radix cache, the newest prompts first, up to the fraction
  `SGLANG_EXT_OPEN_PROMPT_KV_FRACTION` of the KV pool, and until `SGLANG_EXT_OPEN_PROMPT_TTL` seconds have
  passed without a word (`pins.py`, `prompts.py`). An ordinary request that finds no room takes pins away.
- A wrong request is answered with 400 and a sentence, and changes nothing (`protocol.py`).

Several ranks of one server hold the same prompts and pins: all of it follows from the requests, which
every rank sees in the same order, and from the pool, which is the same everywhere. Time is the exception:
only the rank that receives requests looks at a clock, and what has expired it announces to all ranks as a
request (`expiry.py`). Data parallel attention sends requests to one group of ranks each, so a server with
it has no open prompts, and neither has one whose cache is not SGLang's plain radix cache.
"""
