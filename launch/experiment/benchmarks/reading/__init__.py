"""Answers that several benchmarks have: choices, whole numbers and decimals, mathematics."""
