"""Reading, beside the writer: connections that cannot write, of the disk file or of the spare's state."""

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote

from monitor.store.spare import BULK
from monitor.store.transaction import T, Work
from monitor.store.trouble import StoreError

READ_SECONDS = 5.0         # a reader that holds a transaction longer would keep the WAL from shrinking


def read_only(path: Path, work: Work[T], seconds: float = READ_SECONDS, image: bytes | None = None) -> T:
    """Run `work` with a connection that cannot write. Raises StoreError, also when it takes longer than `seconds`.

    With the `image` of a spare the small state is read from that, and the samples from the disk, as far as it can be read.
    """
    try:
        with closing(_disk(path) if image is None else _both(path, image)) as connection:
            connection.execute("PRAGMA query_only = 1")
            end = time.monotonic() + seconds
            connection.set_progress_handler(lambda: time.monotonic() > end, 100_000)
            return work(connection)
    except sqlite3.Error as error:
        raise StoreError(str(error)) from error


def _uri(path: Path) -> str:
    return f"file:{quote(str(path))}?mode=ro"


def _disk(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(_uri(path), uri=True, timeout=5.0)


def _both(path: Path, image: bytes) -> sqlite3.Connection:
    """Names are looked for in the image first; the tables of the samples are taken out of it, so they are found on the disk."""
    connection = sqlite3.connect(":memory:", uri=True, timeout=5.0, isolation_level=None)
    connection.deserialize(image)
    with suppress(sqlite3.Error):                    # not readable: then there are no samples
        connection.execute("ATTACH ? AS disk", (_uri(path),))
        connection.execute("SELECT 1 FROM disk.sample LIMIT 1").fetchone()
        for table in BULK:
            connection.execute(f"DROP TABLE main.{table}")
    return connection
