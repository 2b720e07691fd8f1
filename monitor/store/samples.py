"""Samples as rows: how they are written small, and how the newest or the latest are read back without an index."""

import json
import math
import random
import sqlite3
import struct
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass

from monitor.store import signatures
from monitor.store.counts import Names, Texts, drop_unused
from probes.sample import Outcome, Sample, Step, Trigger

_OUTCOMES, _TRIGGERS = tuple(Outcome), tuple(Trigger)
_OUTCOME = {value: number for number, value in enumerate(_OUTCOMES)}
_TRIGGER = {value: number for number, value in enumerate(_TRIGGERS)}
_DOUBT_MS = 120_000     # rows are in the order of their end; a run is never longer than this
_INSERT = "INSERT INTO sample (series, started, seconds, code, amounts, extra) VALUES (?, ?, ?, ?, ?, ?)"
_CHECKPOINT = "INSERT OR REPLACE INTO checkpoint VALUES (?, ?, ?, ?)"
_PAGE = 20_000          # rows looked at by one statement: what it decodes takes 0.2 s at most
_BACKWARDS = """
    SELECT * FROM sample WHERE id > ? AND id <= ? AND started >= ? AND started < ?
    AND (? IS NULL OR series IN (SELECT value FROM json_each(?))) ORDER BY id DESC"""
_SCATTERED = """
    SELECT sample.* FROM json_each(?) AS chosen JOIN sample ON sample.id = chosen.value
    WHERE started >= ? AND started < ? AND series IN (SELECT value FROM json_each(?))"""
Row = tuple[int, int, int, int, bytes | None, str | None]


@dataclass(frozen=True, slots=True)
class Stored:
    """A sample as it is read back. `id` grows in the order of the commits."""

    id: int
    sample: Sample


class Encoder:
    """Turns samples into rows; belongs to the writer thread, which alone adds series and reasons."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._series: dict[tuple[str, str, str, float, tuple[str, ...]], int] = {}
        self._reasons: dict[str, int] = {}
        self._names = Names(connection)

    def forget(self) -> None:
        """After a rollback: rows that were interned in it are gone."""
        self._series.clear()
        self._reasons.clear()
        self._names.forget()

    def write(self, samples: Iterable[Sample]) -> None:
        samples = list(samples)
        self._connection.executemany(_INSERT, [self._row(sample) for sample in samples])
        checkpoints = {(s.probe, s.device, s.cohort): s.checkpoint for s in samples if s.checkpoint is not None}
        if checkpoints:
            self._connection.executemany(_CHECKPOINT, [(*target, state) for target, state in checkpoints.items()])
        if any(s.counts for s in samples):
            signatures.note(self._connection, samples)

    def _row(self, sample: Sample) -> Row:
        names = tuple(sample.values)
        key = (sample.probe, sample.device, sample.cohort, sample.spacing, names)
        series = self._series.get(key) or self._intern_series(key)
        reason = self._reasons.get(sample.reason) or self._intern_reason(sample.reason)
        code = reason << 5 | sample.overloaded << 4 | _TRIGGER[sample.trigger] << 2 | _OUTCOME[sample.outcome]
        amounts = struct.pack(f"<{len(names)}f", *sample.values.values()) if names else None
        unpacked: Mapping[str, int] = {}
        if sample.counts:
            packed, unpacked = self._names.pack(sample.counts, sample.started)
            amounts = (amounts or b"") + packed
        return series, int(sample.started * 1000), int(sample.seconds * 1e6), code, amounts, _extra(sample, unpacked)

    def _intern_series(self, key: tuple[str, str, str, float, tuple[str, ...]]) -> int:
        row = (*key[:4], json.dumps(key[4]))
        self._connection.execute("INSERT OR IGNORE INTO series (probe, device, cohort, spacing, names) VALUES (?, ?, ?, ?, ?)", row)
        found = self._connection.execute(
            "SELECT id FROM series WHERE (probe, device, cohort, spacing, names) = (?, ?, ?, ?, ?)", row).fetchone()
        self._series[key] = found[0]
        return int(found[0])

    def _intern_reason(self, text: str) -> int:
        self._connection.execute("INSERT OR IGNORE INTO reason (text) VALUES (?)", (text,))
        found = self._connection.execute("SELECT id FROM reason WHERE text = ?", (text,)).fetchone()
        self._reasons[text] = found[0]
        return int(found[0])


def _extra(sample: Sample, counts: Mapping[str, int]) -> str | None:
    extra: dict[str, object] = {}
    if sample.evidence:
        extra["evidence"] = sample.evidence
    if counts:
        extra["counts"] = counts
    if sample.steps:
        extra["steps"] = [(s.name, s.outcome.value, s.seconds, s.reason) for s in sample.steps]
    return json.dumps(extra) if extra else None


class Decoder:
    """Turns rows back into samples; belongs to one reader."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._series: dict[int, tuple[str, str, str, float, tuple[str, ...]]] = {}
        self._reasons: dict[int, str] = {}
        self._texts = Texts(connection)

    def decode(self, row: tuple[int, int, int, int, int, bytes | None, str | None]) -> Stored:
        id_, series, started, seconds, code, amounts, text = row
        probe, device, cohort, spacing, names = self._series.get(series) or self._load_series(series)
        reason = self._reasons.get(code >> 5)
        if reason is None:
            reason = self._load_reason(code >> 5)
        extra = json.loads(text) if text else {}
        counts, amounts, ends = extra.get("counts", {}), amounts or b"", 4 * len(names)
        if len(amounts) > ends:
            counts = self._texts.unpack(amounts[ends:]) | counts
        begin, length = started / 1000, seconds / 1e6
        return Stored(id_, Sample(
            probe=probe, device=device, cohort=cohort, spacing=spacing, outcome=_OUTCOMES[code & 3], trigger=_TRIGGERS[code >> 2 & 3],
            overloaded=bool(code & 16), reason=reason, started=begin, ended=begin + length, seconds=length,
            values=dict(zip(names, struct.unpack_from(f"<{len(names)}f", amounts), strict=True)),
            counts=counts, evidence=extra.get("evidence", ""),
            steps=tuple(Step(name, Outcome(outcome), took, why) for name, outcome, took, why in extra.get("steps", ())),
        ))

    def _load_series(self, id_: int) -> tuple[str, str, str, float, tuple[str, ...]]:
        probe, device, cohort, spacing, names = self._connection.execute(
            "SELECT probe, device, cohort, spacing, names FROM series WHERE id = ?", (id_,)).fetchone()
        self._series[id_] = probe, device, cohort, spacing, tuple(json.loads(names))
        return self._series[id_]

    def _load_reason(self, id_: int) -> str:
        self._reasons[id_] = self._connection.execute("SELECT text FROM reason WHERE id = ?", (id_,)).fetchone()[0]
        return self._reasons[id_]


def first_id(connection: sqlite3.Connection, since: float) -> int:
    """A row id at or shortly before the first sample started at or after `since` (Unix s), by bisection."""
    low, high = connection.execute("SELECT coalesce(min(id), 1), coalesce(max(id), 0) + 1 FROM sample").fetchone()
    wanted = int(since * 1000) - _DOUBT_MS
    while low < high:
        middle = (low + high) // 2
        row = connection.execute("SELECT started FROM sample WHERE id >= ? ORDER BY id LIMIT 1", (middle,)).fetchone()
        if row is None or row[0] >= wanted:
            high = middle
        else:
            low = middle + 1
    return int(low)


def after(connection: sqlite3.Connection, id_: int, limit: int = 50_000) -> list[Stored]:
    """Samples committed after row `id_`, oldest first."""
    decoder = Decoder(connection)
    rows = connection.execute("SELECT * FROM sample WHERE id > ? ORDER BY id LIMIT ?", (id_, limit))
    return [decoder.decode(row) for row in rows]


def series_of(connection: sqlite3.Connection, targets: Container[tuple[str, str, str]]) -> dict[int, tuple[str, str, str]]:
    """The ids of all series of these targets (probe, device, cohort), each with its target."""
    rows = connection.execute("SELECT id, probe, device, cohort FROM series")
    return {id_: (probe, device, cohort) for id_, probe, device, cohort in rows if (probe, device, cohort) in targets}


def backwards(
    connection: sqlite3.Connection, before: float, since: float, among: Set[int] | None = None, seconds: float = math.inf,
) -> Iterator[Stored]:
    """Samples started in [since, before), newest first; times in Unix s.

    Only of the series `among`, which may become fewer while this reads: rows of others are left to SQLite, and cost
    next to nothing. Ends early, at the next page of rows, when it has taken longer than `seconds`.
    """
    decoder, end = Decoder(connection), time.monotonic() + seconds
    first, high, span = first_id(connection, since), newest_id(connection), (int(since * 1000), int(before * 1000))
    while high >= first and (among is None or among):
        low = max(high - _PAGE, first - 1)
        ids = None if among is None else json.dumps(list(among))
        for row in connection.execute(_BACKWARDS, (low, high, *span, ids, ids)):
            if among is None or row[1] in among:
                yield decoder.decode(row)
        if time.monotonic() >= end:
            return
        high = low


def scattered(
    connection: sqlite3.Connection, before: float, since: float, among: Set[int], most: int, seconds: float = math.inf,
) -> Iterator[Stored]:
    """At most `most` samples started in [since, before), of rows that are spread over that time, in no order.

    Only of the series `among`. One row of each stretch of equally many, at a random place in it: probes take turns, and at
    equal distances it would always be the same one's. Seeded. Ends early when it has taken longer than `seconds`; what came by
    then is spread as well.
    """
    decoder, end, place = Decoder(connection), time.monotonic() + seconds, random.Random(0)  # noqa: S311
    first, last = first_id(connection, since), newest_id(connection)
    rows = max(last - first + 1, 0)
    chosen = [first + int((number + place.random()) * max(rows / most, 1.0)) for number in range(min(rows, most))]
    pages = len(chosen) // _PAGE + 1
    for page in range(pages):
        ids = json.dumps(chosen[page::pages])
        for row in connection.execute(_SCATTERED, (ids, int(since * 1000), int(before * 1000), json.dumps(list(among)))):
            yield decoder.decode(row)
        if time.monotonic() >= end:
            return


def checkpoints(connection: sqlite3.Connection) -> Mapping[tuple[str, str, str], bytes]:
    """The committed checkpoint of every target."""
    return {(p, d, c): state for p, d, c, state in connection.execute("SELECT probe, device, cohort, state FROM checkpoint")}


def newest_id(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(id), 0) FROM sample").fetchone()[0])


def oldest(connection: sqlite3.Connection) -> float:
    """Start of the oldest sample, Unix s; infinity when there is none."""
    row = connection.execute("SELECT started FROM sample ORDER BY id LIMIT 1").fetchone()
    return row[0] / 1000 if row else math.inf


def drop_old(connection: sqlite3.Connection, before: float, bite: int = 5_000) -> int:
    """Delete up to `bite` of the oldest samples that started before `before` (Unix s); how many went.

    The newest row stays: SQLite would begin again at 1 in an empty table, below the cursors of those who read on.
    """
    row = connection.execute("SELECT id FROM sample ORDER BY id LIMIT 1 OFFSET ?", (bite - 1,)).fetchone()
    newest = newest_id(connection)
    last = min(row[0], newest - 1) if row else newest - 1
    began = oldest(connection)
    cursor = connection.execute("DELETE FROM sample WHERE id <= ? AND started < ?", (last, int(before * 1000)))
    drop_unused(connection, began, oldest(connection))
    return cursor.rowcount
