"""Fixtures: a stage with a past of its own, and no log on the terminal."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from stage import BASELINE, Make, Stage


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Makes the stage of a test: make(past=200, actors=..., and any key of [update])."""
    made: list[Stage] = []

    async def make(past: int = BASELINE, **settings: Any) -> Stage:
        made.append(await Stage(tmp_path, **settings).open())
        await made[-1].past(past)
        return made[-1]
    yield make
    for stage in made:
        await stage.close()


@pytest.fixture
async def stage(make: Make) -> Stage:
    return await make()
