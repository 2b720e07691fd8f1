"""A shop with every fault, and one browser, for all tests of a file."""

from collections.abc import AsyncIterator

import pytest_asyncio
from bad_shop import BadShop, bad_shop, chromium
from playwright.async_api import Browser


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shop() -> AsyncIterator[BadShop]:
    async with bad_shop() as shop:
        yield shop


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser
