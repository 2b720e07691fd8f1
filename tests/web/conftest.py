"""Fixtures: the web room, open to tests on loopback."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from shopfront import Front, front


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Front]:
    async with front(tmp_path) as shop:
        yield shop
