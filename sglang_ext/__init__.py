"""Faster-MoA's overlay of SGLang: a CPU platform, and a verified list of patches.

SGLang loads it by itself, in each of its processes. README.md says which package does what.
Importing this package imports nothing of SGLang.
"""

__all__ = ["__version__"]
__version__ = "0.1.0"
