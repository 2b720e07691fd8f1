"""One error as a log tells it, whatever its format and however many lines it took."""

from dataclasses import dataclass
from typing import Literal, get_args

Level = Literal["critical", "error", "warning"]
LEVELS: tuple[Level, ...] = get_args(Level)       # the worst first
LONGEST = 16 * 1024                               # bytes of an event that are kept; the rest is skipped


@dataclass(frozen=True, slots=True)
class Frame:
    """One line of a stack trace. `function` has its class before it where the trace tells one: "Cart.total"."""

    path: str
    function: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """What was read out of an event's lines. Nothing here is scrubbed: it stays inside this room."""

    level: Level
    message: str                                  # without time, level, process and request
    source: str = ""                              # who logged it: a logger, channel or program
    exception: str = ""                           # class of the exception, as written: "django.db.utils.OperationalError"
    frames: tuple[Frame, ...] = ()                # the frame that raised it first


def worse(one: Level, other: Level) -> Level:
    """The worse of two levels."""
    return min(one, other, key=LEVELS.index)
