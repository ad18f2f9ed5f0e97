"""Splicing: an agent's prompt is put together, and prefilled, while the answers it reads still come."""
