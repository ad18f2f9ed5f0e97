"""The command line of `python -m router`."""
