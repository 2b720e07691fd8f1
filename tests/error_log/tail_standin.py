"""A daemon in small that follows one log of numbered lines: `tail_standin.py PATTERN DATABASE PAUSE`. It may be killed at any time.

Checkpoint and what was read are committed in one transaction, as the daemon does it. Lines are kept as runs of following numbers, in the order
in which they came.
"""

import re
import sqlite3
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from probes.error_log.positions import Positions, decode, encode
from probes.error_log.tail import Reader, Tail

WHOLE = re.compile(rb"(\d{10}) the writer wrote this line")


class Standin:
    """Reads, and remembers."""

    def __init__(self, pattern: str, database: str) -> None:
        self._tail = Tail([pattern], "beginning")
        self._db = sqlite3.connect(database, isolation_level=None, timeout=20)
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                               "CREATE TABLE IF NOT EXISTS checkpoint (id INTEGER PRIMARY KEY, data BLOB, lines INTEGER, torn INTEGER, gaps INTEGER);"
                               "CREATE TABLE IF NOT EXISTS runs (first INTEGER, last INTEGER)")

    def run(self) -> None:
        """One read and its commit."""
        row = self._db.execute("SELECT data FROM checkpoint").fetchone()
        positions = decode(row[0]) if row else None
        runs: list[list[int]] = []
        torn = [0]
        end = time.monotonic() + 1
        reading = self._tail.read(positions, lambda _file: _reader(runs, torn), time.time(), lambda: time.monotonic() < end)
        self._commit(reading.positions, runs, torn[0], len(reading.gaps))

    def _commit(self, positions: Positions, runs: list[list[int]], torn: int, gaps: int) -> None:
        lines = sum(last - first + 1 for first, last in runs)
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("INSERT INTO checkpoint VALUES (1, ?, ?, ?, ?) "
                         "ON CONFLICT DO UPDATE SET data = excluded.data, lines = lines + excluded.lines,"
                         " torn = torn + excluded.torn, gaps = gaps + excluded.gaps", (encode(positions), lines, torn, gaps))
        self._db.executemany("INSERT INTO runs VALUES (?, ?)", runs)
        self._db.execute("COMMIT")


def _reader(runs: list[list[int]], torn: list[int]) -> Reader:
    def reader(data: bytes, _final: bool) -> int:
        for line in data.splitlines():
            match = WHOLE.fullmatch(line)
            if not match:
                torn[0] += 1
            elif runs and runs[-1][1] + 1 == int(match[1]):
                runs[-1][1] += 1
            else:
                runs.append([int(match[1])] * 2)
        return len(data)
    return reader


def main() -> None:
    standin, pause = Standin(sys.argv[1], sys.argv[2]), float(sys.argv[3])
    while True:
        standin.run()
        time.sleep(pause)


if __name__ == "__main__":
    main()
