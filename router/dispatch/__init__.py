"""Sends requests to workers: both legs of a request on a pair, outcomes for circuit breakers, retries, aborts."""
