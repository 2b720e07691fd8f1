"""The booted machine of these tests, or loudly none."""

from collections.abc import Iterator

import pytest
from machine import CannotBootError, Machine, make_wheels


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine as `/` is here, with Tillwatch's wheels in /wheels for its pip, and nothing of Tillwatch installed."""
    directory = tmp_path_factory.mktemp("machine")
    try:
        booted = Machine(directory, make_wheels(directory / "wheels"))
    except CannotBootError as error:
        pytest.skip(f"NOT RUN, no booted systemd: {error}")
    yield booted
    booted.stop()
