"""Patterns that people write into the configuration: google-re2, which takes time linear in what it searches, whatever the pattern."""

from typing import Any

import re2

_SYNTAX = "https://github.com/google/re2/wiki/Syntax"


def compiled(pattern: str, options: Any, flags: str = "") -> Any:
    """The pattern for bytes, with flags such as "(?m)" before it. Raises ValueError, which says what is wrong with it."""
    try:
        return re2.compile(f"{flags}{pattern}".encode(), options)
    except re2.error as error:
        why = error.args[0].decode("utf-8", "replace").replace(flags, "", 1)
        raise ValueError(f'the pattern "{pattern}" cannot be used: {why} (see {_SYNTAX})') from None
