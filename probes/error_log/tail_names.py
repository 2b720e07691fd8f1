"""What rotated files are called, and the order in which they were written."""

import re

from probes.error_log.archives import is_packed, unpacked

# "app.log.1", "app.log-20240131", "app.log.2024-01-31_12", "app.log.old"; and with the ending kept: "app.1.log", "app-20240131.log".
_BEHIND = re.compile(r"(.+?)(?:[-._~@][-._~@:+TZ0-9]*[0-9][Z~]?|[-._](?:old|bak|orig|prev|previous|last|save|copy)|~)")
_BEFORE = re.compile(r"(.+?)(?:\.[0-9]{1,4}|[-._][-._:+TZ0-9]*)(\.[A-Za-z]\w*)")
_DATE = 6                       # digits that a date before the ending has at least: "shop-2.log" is another log, not an old "shop.log"
_NUMBER = re.compile(r"\.([0-9]{1,4})(?:\.|$)")


def origins(name: str) -> tuple[str, ...]:
    """The names that a file of this name could have had before it was rotated, and maybe compressed."""
    if len(name) > 255:
        return ()
    name = unpacked(name)
    found = []
    if behind := _BEHIND.fullmatch(name):
        found.append(behind[1])
    if before := _BEFORE.fullmatch(name):
        middle = name[len(before[1]) : -len(before[2])]
        if re.fullmatch(r"\.[0-9]{1,4}", middle) or sum(char.isdigit() for char in middle) >= _DATE:
            found.append(before[1] + before[2])
    return tuple(found)


def age(name: str, written: int) -> tuple[int, int, str]:
    """A key that sorts rotated files by when they were last written to (ns), the oldest first; if equal by their names."""
    numbers = _NUMBER.findall(unpacked(name))
    return written, -int(numbers[-1]) if numbers else 0, name


def superfluous(name: str, names: set[str]) -> bool:
    """Whether this is an archive beside what was packed into it: it is being written, or was left behind."""
    return is_packed(name) and unpacked(name) in names
