"""HTTP/1.1 in both directions: the ASGI side towards clients, a lean client towards workers."""
