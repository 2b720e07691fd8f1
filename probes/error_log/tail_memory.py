"""What is kept between two reads only to be quick: losing it at any time loses no line."""

import os
from collections.abc import Sequence
from typing import NamedTuple

from probes.error_log.positions import Position
from probes.error_log.tail_families import Family
from probes.error_log.tail_find import Found, find, matches
from probes.error_log.tail_siblings import folders
from probes.error_log.tail_source import Descriptors, Look

_SCAN = 5.0                     # s between two looks through the patterns
_RACY = 0.1                     # s in which a second change may leave the same time as the first


FolderStates = tuple[tuple[str, int], ...]


class _Seen(NamedTuple):
    """A file of which everything was done that could be done."""

    position: Position
    size: int
    mtime: int
    first: float                # when it was first seen like this
    wake: float                 # when something is to be done though nothing has changed


class Memory:
    """Open descriptors, and what is known to be unchanged."""

    def __init__(self, descriptors: int) -> None:
        self.descriptors = Descriptors(descriptors)
        self.turn = ""                                      # the path whose turn it is when not all can be read
        self._seen: dict[tuple[int, int], _Seen] = {}
        self._found: tuple[float, Found] | None = None
        self._ours: dict[str, bool] = {}
        self._searched: dict[str, tuple[FolderStates, frozenset[tuple[int, int]]]] = {}

    def scan(self, patterns: Sequence[str], now: float) -> Found:
        """What the patterns stand for; at most 5 s old."""
        if self._found is None or not 0 <= now - self._found[0] < _SCAN:
            self._found = now, find(patterns)
        return self._found[1]

    def ours(self, path: str, patterns: Sequence[str]) -> bool:
        """Whether a path is followed at all."""
        known = self._ours.get(path)
        if known is None:
            known = self._ours[path] = matches(path, patterns)
        return known

    def ours_by(self, path: str, pattern: str) -> bool:
        """Whether this pattern stands for a path."""
        return matches(path, (pattern,))

    def unchanged(self, position: Position, look: Look, now: float) -> bool:
        """Whether all was done with this file, and it has not changed since."""
        seen = self._seen.get((look.device, look.inode))
        return (seen is not None and seen.size == look.size and seen.mtime == look.mtime and now < seen.wake
                and (seen.position is position or seen.position == position))

    def still(self, look: Look, now: float) -> float:
        """For how many s the file is known to be as it is."""
        seen = self._seen.get(look.identity)
        return now - seen.first if seen and (seen.size, seen.mtime) == (look.size, look.mtime) else 0.0

    def remember(self, position: Position, look: Look, now: float, wake: float = float("inf")) -> None:
        """All was done with this file as it looked before it was read, until something is to be done at `wake`."""
        first = now - max(self.still(look, now), 0.0)
        if abs(now - look.mtime / 1e9) < _RACY:
            wake = now
        self._seen[look.identity] = _Seen(position, look.size, look.mtime, first, wake)

    def in_vain(self, family: Family, lost: frozenset[tuple[int, int]]) -> bool:
        """Whether these were looked for before, in folders that have not changed since."""
        known = self._searched.get(family.path)
        return known is not None and lost <= known[1] and known[0] == folder_states(family.path)

    def searched(self, family: Family, lost: frozenset[tuple[int, int]], state: FolderStates, now: float) -> None:
        """These were looked for, and not found in folders of that state."""
        newest = max(mtime for _path, mtime in state)
        self._searched[family.path] = state if abs(now - newest / 1e9) >= _RACY else (), lost

    def forget_all_but(self, families: dict[str, Family]) -> None:
        """Stay small: keep nothing of what is no longer followed."""
        if len(self._seen) > 2 * len(families) + 64:
            alive = {one.position.identity for family in families.values() for one in family.generations}
            self._seen = {identity: seen for identity, seen in self._seen.items() if identity in alive}
        if len(self._ours) > 2 * len(families) + 64:
            self._ours = dict.fromkeys(families, True)
            self._searched = {path: known for path, known in self._searched.items() if path in families}



def folder_states(path: str) -> FolderStates:
    """The folders in which a path's rotated files are, and when something was last added, renamed or deleted there."""
    state = []
    for folder in folders(path):
        try:
            state.append((folder, os.stat(folder).st_mtime_ns))  # noqa: PTH116 - as in tail_find
        except OSError:
            state.append((folder, 0))
    return tuple(state)
