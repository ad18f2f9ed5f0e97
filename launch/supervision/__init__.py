"""Runs a plan: starts the servers and the router, waits until they are ready, restarts what dies, stops them all."""
