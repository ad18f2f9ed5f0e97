"""Mixture-of-Agents: trees of agents, run layer by layer through the router's own pairs."""
