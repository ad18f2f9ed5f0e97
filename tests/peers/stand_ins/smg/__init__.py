"""Stands in for smg: whoever starts it starts this project's router."""
