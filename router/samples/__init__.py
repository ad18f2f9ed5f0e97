"""Requests for several samples of each prompt (`n` above 1) on pairs."""
