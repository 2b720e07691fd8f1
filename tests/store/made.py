"""Samples and small jobs for the tests of the store."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from monitor.store import Store
from probes.sample import Outcome, Sample

NOW = 1_790_000_000.0
PHASES = ("resolve", "connect", "tls", "processing", "transfer")


def made(at: float = 0.0, **values: Any) -> Sample:
    """A run that started `at` s after NOW."""
    given: dict[str, Any] = {"probe": "home", "outcome": Outcome.OK, "seconds": 0.125, "spacing": 30.0} | values
    return Sample(started=NOW + at, ended=NOW + at + given["seconds"], **given)


def typical(number: int) -> Sample:
    """A good run of one of fifty http probes, as it is stored all day."""
    values = dict.fromkeys(PHASES, 0.01 + number % 7 / 1000)
    return made(number * 0.6, probe=f"probe-{number % 50}", seconds=0.1 + number % 13 / 100, values=values)


def count(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT count(*) FROM sample").fetchone()[0])


def note(name: str) -> Callable[[sqlite3.Connection], object]:
    return lambda connection: connection.execute("INSERT INTO meta VALUES (?, '')", (name,))


def notes(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM meta ORDER BY name")]


async def settled(store: Store) -> None:
    """All that was handed over so far is committed."""
    await store.write(lambda _: None)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program writes, and does not come to an end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")
