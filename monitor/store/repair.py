"""What is done at the start about a database that is damaged, before any connection is open that others rely on.

It is looked through for a bounded time: the small tables first and as a whole, then the samples as far as the time goes. A damaged file
is moved aside, and the last copy of the essentials put in its place. A file that lost its newest commits (its write-ahead log was
deleted) is sound, but older than the copy: what the copy knows better is written into it. So is what the last run could write to
the copy alone.
"""

import sqlite3
import time
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

from monitor.store import essentials
from monitor.store.schema import STEPS, check, migrate
from monitor.store.spare import small_tables
from monitor.store.trouble import DAMAGED, words

PLAUSIBLE = 10_000      # a schema number beyond this was not written by a newer version, but by chance
_LOGS = ("flip", "incident_step", "update_act")


def marker(path: Path) -> Path:
    """A file that says: the writer of an earlier run met damage, wherever in the file that may be."""
    return path.with_name("damaged")


def mend(path: Path, copy: Path, seconds: float, now: float) -> str:
    """Make the database at `path` one that can be opened. What had to be done in a sentence, "" when nothing had to.

    Raises NewerSchemaError for what a newer version wrote, and sqlite3.Error or OSError when the disk does not let us.
    """
    why = _damage(path, copy, seconds)
    if not why:
        return _take_from(copy, path, seconds) if path.exists() and copy.exists() else ""
    usable = essentials.usable(copy, seconds)
    written = copy.stat().st_mtime if usable else 0.0
    aside = _move_aside(path, now)
    if usable:
        essentials.restore(copy, path)
    marker(path).unlink(missing_ok=True)
    essentials.taken(copy)
    left = f"the copy of the essentials of {_time(written)} was put in its place, without the samples" if usable else \
        "there was no copy of the essentials to put in its place, so all is begun anew"
    return f"the database {why}: " + (f"it was moved to {aside}, and " if aside else "") + left


def _damage(path: Path, copy: Path, seconds: float) -> str:
    """What is wrong with the file; "" when nothing is known to be."""
    if marker(path).exists():
        return "was found damaged by the last run"
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "was missing" if copy.exists() else ""
    if not size:
        return "was empty" if copy.exists() or path.with_name(path.name + "-wal").exists() else ""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=1.0)) as connection:
            return _looked_through(connection, copy, seconds)
    except sqlite3.DatabaseError as error:
        if words(error, path.parent) != DAMAGED:
            raise
        return f"was damaged ({error})"
    except UnicodeDecodeError:                       # SQLite quotes a schema that is no text in the words of its error
        return "was damaged (its schema is no text)"


def _looked_through(connection: sqlite3.Connection, copy: Path, seconds: float) -> str:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    tables = small_tables(connection)
    if not 0 <= version < PLAUSIBLE or (tables and not version):
        return f"was damaged (its schema number is {version})"
    check(connection)
    if missing := _ours() - set(tables) if version == len(STEPS) else ():
        return f"was damaged (it lacks {', '.join(sorted(missing))})"
    end = time.monotonic() + seconds
    connection.set_progress_handler(lambda: time.monotonic() > end, 10_000)
    try:
        for scope in [f"'{table}'" for table in tables] + ["1"]:
            found = connection.execute(f"PRAGMA quick_check({scope})").fetchone()[0]
            if found != "ok":
                return f"was damaged ({' '.join(found.split())[:200]})"
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
    connection.set_progress_handler(None, 0)
    return "had lost what this installation is" if not _identified(connection) and _identity(copy) else ""


def _ours() -> set[str]:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        return set(small_tables(connection))


def _identified(connection: sqlite3.Connection) -> bool:
    return "meta" in small_tables(connection) and connection.execute("SELECT 1 FROM meta WHERE name = 'install_id'").fetchone() is not None


def _identity(copy: Path) -> bool:
    """Does the copy know which installation this is? It usually does not exist before the first hour is over."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(copy))}?mode=ro", uri=True)) as connection:
            return _identified(connection)
    except (sqlite3.Error, UnicodeDecodeError):
        return False


def _take_from(copy: Path, path: Path, seconds: float) -> str:
    """Bring a database that is older than its own copy to what the copy knows. What was done, or ""."""
    written, ahead = copy.stat().st_mtime, essentials.ahead(copy) and essentials.usable(copy, seconds)
    with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True, isolation_level=None, timeout=1.0)) as connection:
        if ahead:                                    # another version may have stopped, or an upgrade found no space
            migrate(connection)
            essentials.upgrade(copy)
        try:
            connection.execute("ATTACH ? AS copy", (f"file:{quote(str(copy))}?mode=ro",))
            if not (ahead or _newer(connection)):
                return ""
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            if ahead:
                raise
            return ""                                # no copy worth the name: the next one takes its place
        connection.execute("BEGIN IMMEDIATE")
        for table in small_tables(connection, "copy"):
            connection.execute(f"INSERT OR REPLACE INTO main.{table} SELECT * FROM copy.{table}")  # noqa: S608 - names of our own schema
        connection.execute("COMMIT")
    essentials.taken(copy)
    return f"the database was older than the copy of its essentials of {_time(written)}: what it lacked was taken from that"


def _newer(connection: sqlite3.Connection) -> bool:
    """Does the copy know more than the database, in the same words? Logs only grow, so the last number tells; it does not tell of
    what changed in place, which is why a copy that was written last says so itself (`essentials.ahead`).
    """
    versions = {connection.execute(f"PRAGMA {schema}.user_version").fetchone()[0] for schema in ("main", "copy")}
    if versions != {len(STEPS)}:
        return False
    last = "SELECT coalesce(max(id), 0) FROM {}.{}"
    return any(
        connection.execute(last.format("copy", log)).fetchone() > connection.execute(last.format("main", log)).fetchone() for log in _LOGS)


def _move_aside(path: Path, now: float) -> str:
    """Rename the file with its log; its new name, "" when there was none."""
    aside = path.with_name(f"damaged-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}{path.suffix}")
    for end in ("-wal", "-shm", ""):
        file = path.with_name(path.name + end)
        if file.exists():
            file.rename(aside.with_name(aside.name + end))
    return aside.name if aside.exists() else ""


def _time(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"
