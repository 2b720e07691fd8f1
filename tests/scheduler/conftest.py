"""All scheduler tests run on virtual time."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
from virtual_time import VirtualLoop


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": VirtualLoop}
