"""Time as an argument: one clock for the daemon, one that tests move by hand, and identifiers that sort by time."""

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"   # Crockford's base 32, in lower case


def _steady() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """The wall clock as it was when the daemon started, moved on by one that only goes forward, also while suspended.

    A step of the system clock therefore never shortens or lengthens a duration. `now()` is Unix time in s.
    """

    def __init__(self) -> None:
        self._offset = time.time() - _steady()

    def now(self) -> float:
        return self._offset + _steady()


@dataclass
class ManualClock(Clock):
    """A clock that stands until it is moved; for tests and replays."""

    at: float = field(default=1_790_000_000.0)

    def now(self) -> float:
        return self.at


def new_id(now: float) -> str:
    """A 26-character identifier that sorts by time (the ULID layout: 48 bits of ms, 80 random bits)."""
    number = (int(now * 1000) << 80) | int.from_bytes(os.urandom(10))
    return "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def iso(at: float) -> str:
    """RFC 3339 in UTC with milliseconds, for machines."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock_time(at: float) -> str:
    """The host's local time of day, for people: "02:14"."""
    return datetime.fromtimestamp(at).astimezone().strftime("%H:%M")


def span(seconds: float) -> str:
    """A duration for people: "40 s", "14 min", "2 h 5 min", "3 d 4 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def day(at: float) -> str:
    """The host's local date: "2026-11-24"."""
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d")
