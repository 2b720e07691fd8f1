"""How far the journal was read, and what was read since."""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Self

from probes.error_log.journal_entries import LONGEST_CURSOR, Entry, Placed

RECENT = 128               # entries that are known again by a hash
OVERLAP = 5_000_000        # µs before the last entry from which on one reads again when going on by time
MOST, MOST_BYTES = 20_000, 8_000_000      # entries, and bytes of their texts, that wait at once
_HASH = 8                  # bytes
_HEAD = struct.Struct("<4sQQHH")
_ITEM = struct.Struct(f"<Q{_HASH}s")
_MAGIC = b"jrn1"


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far the journal was read. Times in µs since 1970, as the journal counts them.

    `at` is journald's own cursor of the last entry, "" before there was one; `realtime` the time of that entry, or the one to begin at. `recent`
    has time and hash of all that was read in the last seconds before it: with them one can go on by time where `at` says nothing. Until
    `clear` there was surely nothing left to be read.
    """

    at: str = ""
    realtime: int = 0
    recent: tuple[tuple[int, bytes], ...] = ()
    clear: int = 0

    @property
    def known(self) -> bool:
        """Whether it says anything: what cannot be decoded does not."""
        return self.realtime > 0

    @property
    def since(self) -> int:
        """From when on one reads again when going on by time (µs)."""
        return min((realtime for realtime, _ in self.recent), default=self.realtime)

    def encode(self) -> bytes:
        """At most about 2.5 kB."""
        at = self.at.encode("ascii")
        return _HEAD.pack(_MAGIC, self.realtime, self.clear, len(at), len(self.recent)) + at + b"".join(_ITEM.pack(*item) for item in self.recent)

    @classmethod
    def decode(cls, data: bytes | None) -> Self | None:
        """What `encode` gave. Nothing is None; what cannot be read is a cursor that is not `known`, which `Journal.read` will tell of."""
        if data is None:
            return None
        if len(data) < _HEAD.size:
            return cls()
        magic, realtime, clear, length, count = _HEAD.unpack_from(data)
        items = _HEAD.size + length
        at = data[_HEAD.size:items]
        if magic != _MAGIC or len(data) != items + count * _ITEM.size or length > LONGEST_CURSOR or not all(33 <= byte <= 126 for byte in at):
            return cls()
        recent = tuple((time, hashed) for time, hashed in _ITEM.iter_unpack(data[items:]))
        if max(realtime, clear, *(time for time, _ in recent)) >= 2**63:
            return cls()
        return cls(at.decode("ascii"), realtime, recent, clear)


def sequence(at: str) -> tuple[str, int]:
    """The id of journald's numbering and the number, out of its cursor "s=ID;i=HEX;b=...;..."."""
    parts = dict(part.partition("=")[::2] for part in at.split(";"))
    try:
        return parts["s"], int(parts["i"], 16)
    except (KeyError, ValueError):
        return "", 0


def just_after(entry: Placed) -> Cursor:
    """Where one goes on behind this entry."""
    return Cursor(entry.cursor, entry.realtime, ((entry.realtime, _hash(entry.cursor)),), entry.realtime)


def _hash(cursor: str) -> bytes:
    """Of the whole cursor: equal lines that are logged at once differ in their number only."""
    return blake2b(cursor.encode(), digest_size=_HASH).digest()


class Arrivals:
    """Entries that have arrived and wait to be given, each once. `cursor` is where what was given ends."""

    def __init__(self, cursor: Cursor, wanted: Callable[[Entry], bool]) -> None:
        self.cursor, self._wanted = cursor, wanted
        self._waiting: list[tuple[Placed, bytes]] = []
        self._size = 0
        self._read = dict.fromkeys(hashed for _, hashed in cursor.recent)      # the last ones, the oldest first

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no more should be added for now."""
        return len(self._waiting) >= MOST or self._size >= MOST_BYTES

    @property
    def newest(self) -> float:
        """Unix s of the entry that arrived last; 0 when none waits."""
        return self._waiting[-1][0].entry.realtime if self._waiting else 0.0

    def add(self, arrived: Placed) -> None:
        """Let it wait, unless it is there a second time: journalctl repeats entries where files rotate."""
        hashed = _hash(arrived.cursor)
        if hashed in self._read:
            return
        self._read[hashed] = None
        if len(self._read) > MOST + RECENT:
            del self._read[next(iter(self._read))]
        self._size += len(arrived.entry.text)
        self._waiting.append((arrived, hashed))

    def end(self) -> Cursor:
        """Where everything ends that has arrived."""
        return self._after(len(self._waiting))

    def take(self, young: Callable[[Entry], bool]) -> tuple[Entry, ...]:
        """The wanted ones, but for those at the end that are still young. They are given by that."""
        count = len(self._waiting)
        while count and young(self._waiting[count - 1][0].entry):
            count -= 1
        self.cursor = self._after(count)
        taken = [placed.entry for placed, _ in self._waiting[:count]]
        del self._waiting[:count]
        self._size -= sum(len(entry.text) for entry in taken)
        return tuple(entry for entry in taken if self._wanted(entry))

    def all_read_until(self, realtime: int) -> None:
        """Remember that until then there is nothing left."""
        self.cursor = replace(self.cursor, clear=max(self.cursor.clear, realtime))

    def _after(self, count: int) -> Cursor:
        """Where the first `count` of those that wait end."""
        if not count:
            return self.cursor
        last = self._waiting[count - 1][0]
        read = [*self.cursor.recent, *((placed.realtime, hashed) for placed, hashed in self._waiting[max(0, count - RECENT - 1):count])]
        return Cursor(last.cursor, last.realtime, _shortened(read, last.realtime), max(self.cursor.clear, last.realtime))


def _shortened(read: list[tuple[int, bytes]], realtime: int) -> tuple[tuple[int, bytes], ...]:
    """The last ones of those that were read. Of one time it has all or none, as going on by time begins with all of a time."""
    kept = read[-RECENT:]
    if len(read) > len(kept):
        kept = [item for item in kept if item[0] > read[-RECENT - 1][0]] or kept
    return tuple(item for item in kept if abs(realtime - item[0]) <= OVERLAP)
