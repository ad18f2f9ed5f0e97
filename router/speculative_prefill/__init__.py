"""Speculative prefill: an agent's prompt is composed and prefilled while the answers it reads are being written."""
