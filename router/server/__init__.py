"""Serves the router: the ASGI app, clients' connections, admission limits, and one or several processes."""
