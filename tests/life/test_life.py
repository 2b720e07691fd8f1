"""Rooms are entered in order and left in reverse, whatever happens."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from monitor import life
from monitor.life import DiedError, Life


@pytest.fixture(autouse=True)
def no_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would end the process of the tests."""
    monkeypatch.setattr(life, "LAST_RESORT_SECONDS", 1e6)


class Told:
    """What happened, in its order."""

    def __init__(self) -> None:
        self.log: list[str] = []

    @asynccontextmanager
    async def room(self, name: str, *, fails: bool = False) -> AsyncIterator[str]:
        if fails:
            raise OSError("cannot be had")
        self.log.append(f"enter {name}")
        yield name
        self.log.append(f"leave {name}")

    async def work(self, name: str, *, dies: bool = False) -> None:
        try:
            if dies:
                raise ValueError("a fault")
            await asyncio.Event().wait()
        finally:
            self.log.append(f"end {name}")


async def test_rooms_are_left_in_reverse_and_what_must_be_done_before_is_done_between() -> None:
    told, here = Told(), Life()

    async def rooms() -> None:
        assert await here.enter("store", told.room("store")) == "store"

        async def settle() -> None:
            told.log.append("settle")
        here.beside("casebook", told.work("casebook"))
        here.before_leaving("incidents", settle)
        await here.enter("probes", told.room("probes"))

    def ready() -> None:
        assert here.serving
        told.log.append("ready")
        asyncio.get_running_loop().call_soon(here.fail, ValueError("enough"))
    with pytest.raises(DiedError, match="enough"):
        await here.serve(rooms, ready)
    assert told.log == ["enter store", "enter probes", "ready", "leave probes", "settle", "end casebook", "leave store"]
    assert not here.serving


async def test_a_room_that_cannot_be_entered_takes_back_the_earlier_ones_and_its_error_flies() -> None:
    told, here = Told(), Life()

    async def rooms() -> None:
        await here.enter("store", told.room("store"))
        await here.enter("web", told.room("web", fails=True))
    with pytest.raises(OSError, match="cannot be had"):
        await here.serve(rooms, lambda: told.log.append("ready"))
    assert told.log == ["enter store"], "an error passes through the rooms"


async def test_the_death_of_what_runs_beside_ends_it_and_is_the_reason() -> None:
    told, here = Told(), Life()

    async def rooms() -> None:
        here.beside("watch", told.work("watch", dies=True))
    with pytest.raises(DiedError) as died:
        await here.serve(rooms, lambda: None)
    assert isinstance(died.value.__cause__, ValueError)


async def test_work_that_ends_although_it_should_go_on_for_ever_is_a_death() -> None:
    here = Life()

    async def nothing() -> None:
        return

    async def rooms() -> None:
        here.beside("housekeeping", nothing())
    with pytest.raises(DiedError, match="housekeeping ended"):
        await here.serve(rooms, lambda: None)
