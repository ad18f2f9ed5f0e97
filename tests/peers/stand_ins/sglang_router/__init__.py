"""Stands in for sglang-router: whoever starts it starts this project's router."""
