"""Names of errors as logs give them, and whether an error lies in a part of the shop that an update changes. Pure, and quick to import.

A name is "error:KeyError at payment_gateway.py _reference [payment_gateway]": its level, what it is, and the module that it lies in, where that
is known. One that lies in a changed part begins with "changed:" for the judge. Names come from the shop: whoever shows them has to escape them.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

SIGNATURE = "signature/"          # begins the name under which a run counts an error
CHANGED = "changed:"
LEVELS = ("critical:", "error:", "warning:", "noted:")      # the worst first; what is only noted is never judged
OTHERS = "(others)"               # what was too much to be told apart
_MODULE = re.compile(r" \[([^\[\]]{1,100})\]$")
_BETWEEN = re.compile(r"[-_./\\:\s]+")


def level(name: str) -> str:
    """Its level in a word; "" when it does not begin with one."""
    bare = name.removeprefix(CHANGED)
    return next((level[:-1] for level in LEVELS if bare.startswith(level)), "")


def plain(name: str) -> str:
    """Without its level: "KeyError at payment_gateway.py _reference [payment_gateway]"."""
    bare = name.removeprefix(CHANGED)
    return next((bare.removeprefix(level) for level in LEVELS if bare.startswith(level)), bare).strip()


def module(name: str) -> str:
    """The module that it lies in; "" when that is not known."""
    found = _MODULE.search(name)
    return found[1] if found else ""


def worst_first(found: Mapping[str, float]) -> list[str]:
    """Names with the events of each: in order of what tells most. What lies in a changed part, then the worst level, then the most frequent."""
    def rank(name: str) -> tuple[bool, bool, int, float, str]:
        words = [word[:-1] for word in LEVELS]
        known = level(name)
        return plain(name) == OTHERS, not name.startswith(CHANGED), words.index(known) if known else len(words), -found[name], name
    return sorted(found, key=rank)


@lru_cache(maxsize=8192)
def changed_part(name: str, changes: tuple[str, ...]) -> str:
    """Which of these changes is the module that an error lies in, as it was named; "" when none is, or the module is not known."""
    lies_in = module(name)
    return next((change for change in changes if lies_in and _same(lies_in, change)), "")


def marked(counts: Mapping[str, int], changes: tuple[str, ...]) -> Mapping[str, int]:
    """The counts of a run, the errors that lie in one of these changes marked as such."""
    touched = {name for name in counts if name.startswith(SIGNATURE) and changed_part(name, changes)} if changes else ()
    if not touched:
        return counts
    return {f"{SIGNATURE}{CHANGED}{name[len(SIGNATURE):]}" if name in touched else name: count for name, count in counts.items()}


def _same(one: str, other: str) -> bool:
    """Do both name one part? "payment_gateway" is "payment-gateway@3", "woocommerce" is "woocommerce/woocommerce", and "Vendor_Cart" is
    "vendor/module-cart". One maker's "core" is not another's.
    """
    (maker, part), (other_maker, other_part) = _read(one), _read(other)
    if not part or not other_part:
        return False
    return maker + part == other_maker + other_part or (part == other_part and bool(maker) != bool(other_maker))


def _read(name: str) -> tuple[list[str], list[str]]:
    """The words of who made it, empty when that is not said, and of its own name."""
    bare = name.strip().lower()
    version = bare.find("@", 1)
    bare = (bare if version < 0 else bare[:version]).strip("@/\\ ")
    maker, _, part = re.sub(r"[\\:]", "/", bare).rpartition("/")
    words = _words(part)
    return _words(maker), words[1:] if maker and words[:1] == ["module"] and len(words) > 1 else words


def _words(text: str) -> list[str]:
    return [word for word in _BETWEEN.split(text) if word]
