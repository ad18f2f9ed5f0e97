"""Transports of connections, to clients and to workers."""
