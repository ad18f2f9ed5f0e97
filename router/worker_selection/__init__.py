"""Which workers may get a request now, and where requests wait until one may."""
