"""The copy of the essentials: everything but the samples, beside the database, for the day on which the database is damaged.

It is made by a reader from one moment of the database: the writer never waits for it.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from urllib.parse import quote

from monitor.store.schema import check, migrate
from monitor.store.spare import Spare, small_tables
from monitor.store.transaction import Outcome, transaction
from monitor.store.trouble import DAMAGED, words

NAME = "essentials.sqlite3"
AHEAD = 0x711A          # the application_id of a copy that knows more than the database; it is gone as soon as a newer copy takes its place


def copy(path: Path, to: Path, seconds: float, given_up: Callable[[], bool] = lambda: False) -> None:
    """Copy the essentials of the database at `path`. The last copy stays until this one is whole and on the disk.

    Raises sqlite3.Error or OSError, also when it takes longer than `seconds` or was given up.
    """
    new = _fresh(to)
    try:
        with closing(_made(new)) as connection:
            end = time.monotonic() + seconds
            connection.set_progress_handler(lambda: given_up() or time.monotonic() > end, 100_000)
            connection.execute("ATTACH ? AS live", (f"file:{quote(str(path))}?mode=ro",))
            connection.execute("BEGIN")
            for table in small_tables(connection):
                connection.execute(f"INSERT INTO main.{table} SELECT * FROM live.{table}")  # noqa: S608 - names of our own schema
            connection.execute("COMMIT")
        put_in_place(new, to)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def keep(spare: Spare, to: Path) -> Outcome[None]:
    """Merge a spare into the copy: what is left to do when the database itself is damaged, or cannot be written to the end.

    The copy is marked in the same transaction as being ahead of the database, unless the spare did not know what stands there.
    Raises sqlite3.Error or OSError.
    """
    to.touch(mode=0o600)
    with closing(sqlite3.connect(to, isolation_level=None, timeout=1.0)) as connection:
        try:
            migrate(connection)
        except sqlite3.DatabaseError as error:
            if words(error, to.parent) == DAMAGED:   # of no use either: the next time it is made anew
                to.unlink()
            raise
        outcome = transaction(connection, partial(_merge_ahead, spare))
    if outcome.error is None:
        spare.merged()
    return outcome


def _merge_ahead(spare: Spare, into: sqlite3.Connection) -> None:
    spare.merge(into)
    if spare.complete:
        into.execute(f"PRAGMA application_id = {AHEAD}")


def ahead(path: Path) -> bool:
    """Does the copy hold what the database could not be given? False where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            return bool(connection.execute("PRAGMA application_id").fetchone()[0] == AHEAD)
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def upgrade(path: Path) -> None:
    """Take the copy to the newest schema, as it is. Raises sqlite3.Error."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=1.0)) as connection:
        migrate(connection)


def taken(path: Path) -> None:
    """The database has all that the copy has, on the disk. Raises sqlite3.Error."""
    if ahead(path):
        with closing(sqlite3.connect(path, isolation_level=None, timeout=1.0)) as connection:
            connection.execute("PRAGMA application_id = 0")


def restore(copy_: Path, to: Path) -> None:
    """Put a copy of the copy in the place of the database."""
    new = _fresh(to)
    shutil.copyfile(copy_, new)
    put_in_place(new, to)


def put_in_place(new: Path, to: Path) -> None:
    """Rename, with all of it on the disk before and after."""
    for path, then in ((new, lambda: new.replace(to)), (to.parent, lambda: None)):
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)
        then()


def _fresh(to: Path) -> Path:
    new = to.with_name(to.name + ".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    return new


def _made(path: Path) -> sqlite3.Connection:
    """An empty database with our schema. Its journal is of no use: it is thrown away when it is not whole."""
    connection = sqlite3.connect(path, isolation_level=None, uri=True)
    try:
        connection.executescript("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;")
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def usable(path: Path, seconds: float) -> bool:
    """Could the copy be put in the place of the database? Raises NewerSchemaError."""
    try:
        if not path.stat().st_size:
            return False
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            check(connection)
            end = time.monotonic() + seconds
            connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
            return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT        # too long to be looked through: sound as far as it was read
    except (sqlite3.DatabaseError, UnicodeDecodeError, FileNotFoundError):
        return False
