"""An HTTP router in front of SGLang's prefill/decode (P/D) servers, with trees of agents as models.

Start it with `python -m router --pd-disaggregation --prefill URL BOOTSTRAP_PORT --decode URL`.
"""
