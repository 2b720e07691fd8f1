"""Counts of a sample as bytes: their names are interned, so that a row holds numbers and no text.

A number of one byte says how wide the identifiers and the counts of this row are; then come the identifiers, then the counts.
"""

import sqlite3
import struct
from collections.abc import Mapping

MOST_NAMES = 100_000       # rows of count_name; what comes on top stands in the sample's own text
_MOST_CACHED = 10_000      # names, so a few MB
_WIDTHS = "BHIQ"           # 1, 2, 4, 8 bytes
_LIMITS = (1 << 8, 1 << 16, 1 << 32, 1 << 64)
DAY = 86400

Packed = tuple[bytes, dict[str, int]]


class Names:
    """Turns names into identifiers; belongs to the writer thread, which alone adds any."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._known: dict[str, tuple[int, int]] = {}     # identifier, and the day that is noted as its newest
        self._room, self._counted = 0, -1                # for so many more; and the day on which it was last found that there is none

    def forget(self) -> None:
        """After a rollback: rows that were added in it are gone."""
        self._known.clear()
        self._room, self._counted = 0, -1

    def pack(self, counts: Mapping[str, int], at: float) -> Packed:
        """The counts of a sample that started at `at` (Unix s) as bytes, and those that must be written out: there is no room for their name,
        or they are no number that fits.
        """
        day, ids, numbers, rest = int(at) // DAY, [], [], {}
        for name, count in counts.items():
            known = self._known.get(name)
            id_ = known[0] if known and known[1] >= day else self._intern(name, day)
            if id_ and 0 <= count < _LIMITS[-1]:
                ids.append(id_)
                numbers.append(count)
            else:
                rest[name] = count
        return (_packed(ids, numbers) if ids else b""), rest

    def _intern(self, name: str, day: int) -> int:
        """The identifier of a name that is used on this day; 0 when there is no room for it."""
        run = self._connection.execute
        found = run("SELECT id, used FROM count_name WHERE text = ?", (name,)).fetchone()
        if found is None:
            if not self._has_room(day):
                return 0
            found = run("INSERT INTO count_name (text, used) VALUES (?, ?)", (name, day)).lastrowid, day
        elif found[1] < day:
            run("UPDATE count_name SET used = ? WHERE id = ?", (day, found[0]))
        if len(self._known) >= _MOST_CACHED:
            self._known.clear()
        self._known[name] = found[0], max(found[1], day)
        return int(found[0])

    def _has_room(self, day: int) -> bool:
        """Take the room of one more name, if there is any. That there is none is found once a day: counting takes milliseconds."""
        if self._room <= 0 and day > self._counted:
            self._room = MOST_NAMES - int(self._connection.execute("SELECT count(*) FROM count_name").fetchone()[0])
            self._counted = day
        self._room -= 1
        return self._room >= 0


class Texts:
    """Turns identifiers back into names; belongs to one reader."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._texts: dict[int, str] = {}

    def unpack(self, packed: bytes) -> dict[str, int]:
        """What `pack` made bytes of. A name that is gone, because a clock was wrong, is "#" and its identifier."""
        one, other = divmod(packed[0], 4)
        size = (len(packed) - 1) // ((1 << one) + (1 << other))
        values = struct.unpack(f"<{size}{_WIDTHS[one]}{size}{_WIDTHS[other]}", packed[1:])
        texts, ids = self._texts, values[:size]
        for id_ in ids:
            if id_ not in texts:
                found = self._connection.execute("SELECT text FROM count_name WHERE id = ?", (id_,)).fetchone()
                texts[id_] = found[0] if found else f"#{id_}"
        return dict(zip([texts[id_] for id_ in ids], values[size:], strict=True))


def drop_unused(connection: sqlite3.Connection, began: float, begins: float) -> None:
    """Forget the names that no sample has any more, now that the oldest one started at `begins` instead of `began` (Unix s): once a day."""
    if begins // DAY > began // DAY:
        connection.execute("DELETE FROM count_name WHERE used < ?", (begins // DAY - 1,))


def _packed(ids: list[int], numbers: list[int]) -> bytes:
    one, other = _width(max(ids)), _width(max(numbers))
    return struct.pack(f"<B{len(ids)}{_WIDTHS[one]}{len(ids)}{_WIDTHS[other]}", one * 4 + other, *ids, *numbers)


def _width(most: int) -> int:
    return next(width for width, limit in enumerate(_LIMITS) if most < limit)
