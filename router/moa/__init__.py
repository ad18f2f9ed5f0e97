"""Mixture-of-Agents: trees of LLM agents, run layer by layer on the router's own workers."""
