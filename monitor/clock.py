"""Time as an argument: one clock for the daemon, one that tests move by hand, and identifiers that sort by time."""

import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"   # Crockford's base 32, in lower case


_EARLIEST = datetime(2026, 1, 1, tzinfo=UTC).timestamp()      # a clock that says less is not set
_TRUSTED = 86400.0         # s: what was remembered from further ahead than this was written under a wrong clock
STEP_SECONDS = 2.0         # a smaller difference is no step


def _steady() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Clock:
    """The wall clock as it was when the daemon started, moved on by one that only goes forward, also while suspended.

    A step of the system clock therefore never shortens or lengthens a duration. `now()` is Unix time in s. What the wall
    clock has stepped since is `shift`; `true_time`, `iso`, `clock_time` and `day` add it, so that the world hears true times.
    """

    def __init__(self, remembered: float = 0.0) -> None:
        self.start(remembered)

    def start(self, remembered: float = 0.0) -> None:
        """Begin with the wall clock as it is now, or with the newest time that is `remembered` (Unix s), see `begin`."""
        self._offset = begin(time.time(), remembered) - _steady()
        self._seen = 0.0
        self.follow()

    def now(self) -> float:
        return self._offset + _steady()

    @property
    def shift(self) -> float:
        """Seconds by which the wall clock is ahead of `now()`, as `follow` last saw it."""
        return _shift.seconds

    def follow(self) -> float:
        """Look at the wall clock. The step that it has made since the last look in s, 0 for none."""
        wall, now = time.time(), self.now()
        _shift.seconds = wall - now if wall >= _EARLIEST and abs(wall - now) > STEP_SECONDS else 0.0
        stepped, self._seen = _shift.seconds - self._seen, _shift.seconds
        return stepped if abs(stepped) > STEP_SECONDS else 0.0


def begin(wall: float, remembered: float) -> float:
    """What time it is at the start, in Unix s: the wall clock's, unless it is not set, or a little behind what is remembered.

    So time goes on from one run to the next, and the history stays in order, also when the clock was put back meanwhile.
    """
    if wall < _EARLIEST:
        return max(_EARLIEST, remembered)
    return remembered if wall < remembered <= wall + _TRUSTED else wall


@dataclass
class _Shift:
    """How far the wall clock of this process's machine is ahead of what the process counts as now."""

    seconds: float = 0.0


_shift = _Shift()          # one for the process, as the time zone is: only how a moment is called depends on it


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


def true_time(at: float) -> float:
    """What the wall clock calls the moment `at` of `Clock.now`: for times that go out as numbers, or are formed elsewhere."""
    return at + _shift.seconds


def iso(at: float) -> str:
    """RFC 3339 in UTC with milliseconds, for machines."""
    return datetime.fromtimestamp(true_time(at), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def clock_time(at: float) -> str:
    """The host's local time of day, for people: "02:14"."""
    return datetime.fromtimestamp(true_time(at)).astimezone().strftime("%H:%M")


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
    return datetime.fromtimestamp(true_time(at)).astimezone().strftime("%Y-%m-%d")
