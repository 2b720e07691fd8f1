"""Which devices Playwright knows by name, without starting it."""

import re
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# The names stand in the type declarations that come with the driver: quicker to read than to ask the driver for them.
_DECLARED = re.compile(r'^\s{2,8}"([^"\n]{1,64})": DeviceDescriptor;$', re.MULTILINE)


@cache
def known() -> frozenset[str]:
    """All names; none when they cannot be read here."""
    package = find_spec("playwright")
    if package is None or not package.origin:
        return frozenset()
    try:
        text = (Path(package.origin).parent / "driver" / "package" / "types" / "types.d.ts").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    return frozenset(_DECLARED.findall(text))


def check(name: str) -> str:
    """The name itself. Raises ValueError for one that Playwright does not know."""
    names = known()
    if not names or name in names:
        return name
    close = get_close_matches(name, names, 1, 0.5)
    raise ValueError(f'Playwright knows no device "{name}"' + (f'; did you mean "{close[0]}"?' if close else ""))
