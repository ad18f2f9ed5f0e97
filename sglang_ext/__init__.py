"""Faster-MoA's overlay of SGLang.

SGLang loads the overlay by itself, through its plugin entry points, in each of its processes:

- `sglang_ext.cpu` is a device platform: SGLang on a machine without a GPU.
- `sglang_ext.plugin` checks the list of patches in `sglang_ext.patches` against the installed
  SGLang and applies those that fit the machine. A patch whose upstream source differs from what
  was verified stops the server.

Importing this package imports nothing of SGLang.
"""

__all__ = ["__version__"]
__version__ = "0.1.0"
