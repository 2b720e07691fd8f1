"""Fixtures: an outbox in memory and in a real store, a clock that is moved by hand, a receiver on loopback."""

import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from desk import NIGHT, Hook, serving

from monitor.clock import ManualClock
from monitor.store import Store
from monitor.store.schema import migrate


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    yield connection
    connection.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(tmp_path) as store:
        yield store


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(NIGHT + 60)


@pytest.fixture
async def server() -> AsyncIterator[Hook]:
    async with serving(Hook()) as hook:
        yield hook
