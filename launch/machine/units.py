"""Units of memory."""

GIB = 1 << 30
