"""How much memory routers hold after an hour of mixed requests."""
