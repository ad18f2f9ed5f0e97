"""All parts of a router, built from its settings."""

from router.server.components.builder import Components, build_components

__all__ = ["Components", "build_components"]
