"""Checks of clients' requests before anything is sent to a worker."""
