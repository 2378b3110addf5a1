"""Values of JSON that can be written again: numbers that are finite, texts of whole characters, nesting that ends."""

from __future__ import annotations

import math

MAX_LEVELS = 64  # Far less than what exhausts the stack of whoever writes them.
MAX_INTEGER_BITS = 8192  # Python writes no number that is much longer.
RULE = f"may hold finite numbers and whole characters only, nested at most {MAX_LEVELS} levels deep"


def is_writable(value: object, levels: int = MAX_LEVELS) -> bool:
    """Tell whether an answer can hold a value."""
    if isinstance(value, str):
        return value.isascii() or _mended(value) == value
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return value.bit_length() <= MAX_INTEGER_BITS
    if isinstance(value, dict):
        return levels > 0 and all(is_writable(name) and is_writable(inner, levels - 1) for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return levels > 0 and all(is_writable(inner, levels - 1) for inner in value)
    return value is None


def writable(value: object, levels: int = MAX_LEVELS) -> object:
    """Return what is left of a value that an answer can hold: null stands for what it can't."""
    if isinstance(value, str):
        return _mended(value)
    if isinstance(value, dict) and levels > 0:
        return {_mended(str(name)): writable(inner, levels - 1) for name, inner in value.items()}
    if isinstance(value, (list, tuple)) and levels > 0:
        return [writable(inner, levels - 1) for inner in value]
    return value if is_writable(value, levels=0) else None


def _mended(text: str) -> str:
    """Put a question mark in the place of each half of a character, which UTF-8 has no bytes for."""
    return text.encode(errors="replace").decode()
