"""The models that can be served: their shapes, and the small ones that come in PyPI packages."""
