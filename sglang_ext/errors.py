"""Why the overlay refuses to load, or a server to start.

OverlayError
├── UnknownVersion   the installed SGLang was never verified
├── SourceMismatch   a patched symbol's source differs from the verified one
├── MissingSymbol    a patched symbol no longer exists
├── NotApplied       SGLang's hook registry did not apply a patch
├── BadSetting       an environment variable of the overlay has an invalid value
└── NoMemory         the planned KV pool does not fit into what is free
"""


class OverlayError(RuntimeError):
    """The overlay does not fit the installed software; the message is one sentence."""


class UnknownVersion(OverlayError):
    """The installed SGLang's version is in no patch's list."""


class SourceMismatch(OverlayError):
    """A patched function's source is not the verified one."""


class MissingSymbol(OverlayError):
    """A patched symbol cannot be found."""


class NotApplied(OverlayError):
    """A patch was registered but its target is still the original."""


class BadSetting(OverlayError):
    """An environment variable has an invalid value."""


class NoMemory(OverlayError):
    """The planned KV pool is larger than the free memory."""
