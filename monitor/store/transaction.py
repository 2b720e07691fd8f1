"""One turn of the writer thread: all of a closure, or nothing."""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What the closure gave, or the error for which all of it was rolled back."""

    result: T | None = None
    error: BaseException | None = None


def transaction(connection: sqlite3.Connection, work: Work[T]) -> Outcome[T]:
    """Run `work` and commit it. Whatever flies, it is rolled back and handed to whoever waits for the work."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        result = work(connection)
        connection.execute("COMMIT")
    except BaseException as error:  # noqa: BLE001 - the writer thread must outlive every closure
        with suppress(sqlite3.Error):                # it has rolled back by itself, or cannot: the writer looks
            connection.rollback()
        return Outcome(error=error)
    return Outcome(result)
