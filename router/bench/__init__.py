"""`python -m router.bench`: this router and sglang-router (Rust) against the same fake servers.

A *bed* is a fake prefill and decode server with the routers in front of them. Each case is measured
directly at the decode server and through each router in turn, several rounds over; what a router adds
is the difference within a round, and what is told is the median of the rounds.
"""
