"""Clients' requests on workers of any kind, with retries, and the workers' responses."""
