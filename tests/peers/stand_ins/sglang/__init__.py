"""Stands in for SGLang where a suite starts servers: nothing is computed."""
