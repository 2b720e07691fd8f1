"""Fixtures: one street for all tests of a module."""

from collections.abc import Iterator

import pytest
from street import Street, street


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    with street(tmp_path_factory.mktemp("street")) as found:
        yield found
