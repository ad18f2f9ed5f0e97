"""Sends requests to pairs and plain servers: attempts, retries, aborts, and the supervision of workers."""
