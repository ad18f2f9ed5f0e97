"""What an operator of sglang-router finds again here, and what not: `python -m router.parity`."""
