"""The tree of agents over a launch: its trees file, one question to it, and the report of that run."""
