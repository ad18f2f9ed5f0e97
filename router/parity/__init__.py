"""Compares this router's flags, paths and metrics with sglang-router's: `python -m router.parity`."""
