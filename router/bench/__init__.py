"""Benchmarks. `python -m router.bench` compares this router with sglang-router (Rust) in front of the same fake pair.

Each case is measured directly at the fake decode server and through each router in turn, in several rounds. What a
router adds is the difference within a round; reported is the median of the rounds.
"""
