"""The spare: the store's small state in memory, for as long as the disk cannot be written.

It is filled from the disk file, which usually can still be read, with all tables but the samples and theirs, and of long
tables with what is recent or open. Closures run on it as they would on the disk. What they changed is the difference to what it was
filled with; that is merged into the disk in one transaction when the disk can be written again. Nobody else has written there meanwhile.
"""

import sqlite3
from collections.abc import Iterable, Sequence, Set
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from monitor.store.schema import migrate
from monitor.store.transaction import Outcome, T, Work, transaction

Row = tuple[Any, ...]

BULK = ("sample", "series", "reason", "count_name")      # stay empty here: samples wait in the ring
_INCIDENTS = "SELECT id FROM incident WHERE resolved IS NULL OR id IN (SELECT id FROM incident ORDER BY opened DESC LIMIT 500)"
_UPDATES = "SELECT id FROM shop_update ORDER BY started DESC LIMIT"
# Which rows are recent or open. The newest row of a log is always taken: the next one is numbered after it. Messages that were settled
# since the last copy of the essentials are taken too: a spare that is kept in that copy must not leave them unsettled there.
_RECENT = {
    "incident": f"id IN ({_INCIDENTS})",
    "incident_step": f"incident IN ({_INCIDENTS}) OR id = (SELECT max(id) FROM incident_step)",  # noqa: S608 - our own words
    "outbox": f"state IN ('queued', 'inflight', 'parked') OR incident IN ({_INCIDENTS}) OR done > (SELECT max(done) FROM outbox) - 7200",  # noqa: S608
    "flip": "id > (SELECT max(id) FROM flip) - 5000",
    "shop_update": f"id IN ({_UPDATES} 100) OR id IN (SELECT update_id FROM incident WHERE resolved IS NULL)",  # noqa: S608
    "update_act": f"update_id IN ({_UPDATES} 100) OR id = (SELECT max(id) FROM update_act)",  # noqa: S608
    "baseline": f"update_id IN ({_UPDATES} 10)",
}


def small_tables(connection: sqlite3.Connection, schema: str = "main") -> list[str]:
    """All tables but the samples and theirs."""
    rows = connection.execute(f"SELECT name FROM {schema}.sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%' ORDER BY name")  # noqa: S608
    return [name for (name,) in rows if name not in BULK]


def columns(connection: sqlite3.Connection, table: str, key: bool = False) -> list[str]:
    """The names of a table's columns, or of those of its primary key."""
    return [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[5] or not key]


class Spare:
    """Belongs to the writer thread. `image` is its last committed state as bytes, for readers in other threads.

    `blind`: the tables of which the disk file could not be read.
    """

    def __init__(self, connection: sqlite3.Connection, blind: Set[str]) -> None:
        self._connection, self._blind = connection, blind
        connection.execute("ATTACH ':memory:' AS filled")
        self._remember()
        self.image = connection.serialize()

    @property
    def complete(self) -> bool:
        return not self._blind

    def run(self, work: Work[T]) -> Outcome[T]:
        """A transaction, as on the disk."""
        before = self._connection.total_changes
        outcome = transaction(self._connection, work)
        if outcome.error is None and self._connection.total_changes != before:
            self.image = self._connection.serialize()
        return outcome

    def merge(self, disk: sqlite3.Connection) -> None:
        """Write what was changed here into `disk`, inside its transaction."""
        for table in small_tables(self._connection):
            self._merge(disk, table)

    def merged(self) -> None:
        """The merge was committed: from now on only later changes count."""
        self._remember()

    def hold_all(self) -> None:
        """From now on all that it holds counts as a change: where it is merged next, less may be known than on the disk it was filled from."""
        for table in set(small_tables(self._connection)) - self._blind:
            self._connection.execute(f"DELETE FROM filled.{table}")  # noqa: S608

    def close(self) -> None:
        self._connection.close()

    def _remember(self) -> None:
        for table in small_tables(self._connection):
            self._connection.execute(f"DROP TABLE IF EXISTS filled.{table}")
            self._connection.execute(f"CREATE TABLE filled.{table} AS SELECT * FROM main.{table}")  # noqa: S608

    def _merge(self, disk: sqlite3.Connection, table: str) -> None:
        names, key = columns(self._connection, table), ", ".join(columns(self._connection, table, key=True))
        gone = self._connection.execute(f"SELECT {key} FROM filled.{table} EXCEPT SELECT {key} FROM main.{table}").fetchall()  # noqa: S608
        disk.executemany(f"DELETE FROM {table} WHERE ({key}) = ({_marks(key.split())})", gone)  # noqa: S608
        changed = self._connection.execute(f"SELECT * FROM main.{table} EXCEPT SELECT * FROM filled.{table} ORDER BY {key}").fetchall()  # noqa: S608
        if table in self._blind and self._numbered(table):
            changed = self._append(disk, table, names, changed)
        # What was made without sight of the disk (an identifier, say) must not take the place of what is there.
        verb = "IGNORE" if table == "meta" and table in self._blind else "REPLACE"
        disk.executemany(f"INSERT OR {verb} INTO {table} VALUES ({_marks(names)})", changed)  # noqa: S608

    def _append(self, disk: sqlite3.Connection, table: str, names: Sequence[str], rows: Iterable[Row]) -> list[Row]:
        """Let the disk number the new rows of a log, for the spare did not know the last number. The rows that are not new."""
        known = {id_ for (id_,) in self._connection.execute(f"SELECT id FROM filled.{table}")}  # noqa: S608
        rows = list(rows)
        new = [row[1:] for row in rows if row[0] not in known]
        disk.executemany(f"INSERT INTO {table} ({', '.join(names[1:])}) VALUES ({_marks(names[1:])})", new)  # noqa: S608
        return [row for row in rows if row[0] in known]

    def _numbered(self, table: str) -> bool:
        """Is it a log, whose rows SQLite numbers?"""
        return any(row[1:3] == ("id", "INTEGER") for row in self._connection.execute(f"PRAGMA table_info({table})"))


def _marks(names: Sequence[str]) -> str:
    return ", ".join("?" * len(names))


def fill(path: Path, copy: Path) -> Spare:
    """A spare with what can be read: of the database at `path`, else of its copy, else of nothing; table by table. Where the copy is ahead
    of the database, they change places.
    """
    spare = _empty()
    left = set(small_tables(spare))
    for uri in (f"file:{quote(str(path))}?mode=ro", *_unchanging(path)):
        left = _pour(uri, spare, left)
    _pour(f"file:{quote(str(copy))}?mode=ro", spare, left)
    return Spare(spare, left)


def _unchanging(path: Path) -> list[str]:
    """Where no -shm can be made, a file without a write-ahead log can be read in this way alone."""
    log = path.with_name(path.name + "-wal")
    return [] if log.exists() and log.stat().st_size else [f"file:{quote(str(path))}?mode=ro&immutable=1"]


def _empty() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    migrate(connection)
    return connection


def _pour(uri: str, into: sqlite3.Connection, tables: Set[str]) -> set[str]:
    """Fill `tables`, all from one moment of the file; those that could not be read. An older schema gives what it has."""
    left = set(tables)
    with suppress(sqlite3.Error, UnicodeDecodeError), closing(sqlite3.connect(uri, uri=True, timeout=1.0, isolation_level=None)) as source:
        source.execute("BEGIN")
        there = set(small_tables(source))
        for table in tables:
            if table not in there or transaction(into, partial(_pour_table, source, table)).error is None:
                left.remove(table)
    return left


def _pour_table(source: sqlite3.Connection, table: str, into: sqlite3.Connection) -> None:
    there = set(columns(source, table))
    names = [name for name in columns(into, table) if name in there]
    rows = source.execute(f"SELECT {', '.join(names)} FROM {table} WHERE {_RECENT.get(table, 'TRUE')}")  # noqa: S608
    into.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({_marks(names)})", rows)  # noqa: S608
