"""Fixtures: a real store in a folder of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from monitor.store import Limits, Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(tmp_path) as store:
        yield store


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Store]:
    """A store that neither waits long for a lock nor long until it tries again."""
    async with Store(tmp_path, Limits(busy=0.03, retry=0.05)) as store:
        yield store
