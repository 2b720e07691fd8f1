"""Following files through rotation, truncation, compression and restarts: every line is read once.

A file is known by its identity (device and inode), its beginning and what stands before the offset, never by its path alone.
All that must be known is in the positions that a read gives; what a `Tail` keeps open may be lost at any time. Lost to it are
only lines that nobody could read: those written between the copy and the truncation of `copytruncate`, those of a file
that was deleted before it was read and not open, and those written to a rotated file after it was given up.
"""

from collections.abc import Callable, Sequence
from typing import Literal

from probes.error_log.positions import Positions, Unreadable
from probes.error_log.tail_memory import Memory
from probes.error_log.tail_places import Places
from probes.error_log.tail_run import Open, Reading, Run
from probes.error_log.tail_slices import Opened, Reader

__all__ = ["Open", "Opened", "Reader", "Reading", "Tail"]


class Tail:
    """Files that patterns stand for, and how they are followed. Not for two threads at once."""

    def __init__(self, patterns: Sequence[str], begin: Literal["end", "beginning"] = "end", *, descriptors: int = 200) -> None:
        self._patterns = tuple(patterns)
        self._end = begin == "end"
        self._descriptors = descriptors
        self._memory = Memory(descriptors)

    def read(self, positions: Positions | Unreadable | None, opened: Open, now: float, more: Callable[[], bool]) -> Reading:
        """Read on from these positions until the ends of all files, or until there is no time for more.

        Without positions, or with unreadable ones, which is a problem, the files that are there begin at their ends, if not told
        otherwise; so do those of a pattern that is new.
        A file that appears later is read from its beginning. `opened` gives the reader of each file of which there are lines;
        its answer is used for this read only. `now` is Unix time, s. A read that is not kept may be repeated from the same positions.
        What a reader raises comes through.
        """
        known = None if isinstance(positions, Unreadable) else positions
        places = Places(self._memory, self._patterns, end=self._end, positions=known, now=now)
        if isinstance(positions, Unreadable):
            places.problems["checkpoint"] = f"{positions.reason}: files begin anew"
        return Run(self._memory, places, opened, now).read(more)

    def close(self) -> None:
        """Close what is open. Reading may go on later all the same."""
        self._memory.descriptors.close()
        self._memory = Memory(self._descriptors)
