"""Clients' connections: uvicorn's HTTP/1.1 protocol with time limits, and serving an app on sockets."""

from router.server.connections.uvicorn_import import import_uvicorn_without_cli

import_uvicorn_without_cli()
