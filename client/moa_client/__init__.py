"""Placeholders for answers that are still being written, for any client of the router."""

from moa_client.agent_run import AgentRun

__all__ = ["AgentRun"]
