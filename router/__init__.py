"""The P/D router: one port in front of prefill/decode pairs of one or more models.

`python -m router --pd-disaggregation --prefill URL BOOTSTRAP_PORT --decode URL` starts it.
"""
