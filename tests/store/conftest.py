"""Fixtures: a real store in a folder of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from monitor.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(tmp_path) as store:
        yield store
