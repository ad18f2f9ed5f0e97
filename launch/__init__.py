"""Starts P/D pairs and the router over them: `python -m launch.pd`."""
