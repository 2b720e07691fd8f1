"""The submit guard: an order is placed only when the disk has it that one is placed, and a restart places no second one."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from disks import fill, needs_root, tmpfs
from made import locked

from monitor.clock import ManualClock
from monitor.store import Limits, Store, guard
from monitor.store.guard import KEPT, StoredGuard

TARGET = ("checkout", "", "")
CYCLE = 300.0
ROOT = Path(__file__).resolve().parents[2]
ONCE = "this run has submitted already, and does so once only"


async def recorded(store: Store) -> list[str]:
    return await store.read(lambda c: [run for (run,) in c.execute("SELECT run FROM submission ORDER BY at, run")])


async def test_a_run_submits_once_and_the_next_one_half_an_interval_later(store: Store) -> None:
    clock = ManualClock()
    asked = StoredGuard(store, clock)
    assert await asked.take(TARGET, "a", CYCLE) == ""
    clock.at += 12
    assert await asked.take(TARGET, "b", CYCLE) == "run a of this probe submitted 12 s ago; at most once in 2 min"
    clock.at += 1000
    assert await asked.take(TARGET, "a", CYCLE) == ONCE, "however long ago"
    assert await asked.take(TARGET, "b", CYCLE) == ""
    assert await asked.take(("checkout", "iPhone 15", ""), "c", CYCLE) == ""
    assert await asked.take(("checkout", "", "canary"), "b", CYCLE) == ""
    clock.at += 149
    assert await asked.take(TARGET, "d", CYCLE)
    clock.at += 1
    assert await asked.take(TARGET, "d", CYCLE) == ""
    assert await recorded(store) == ["a", "b", "b", "c", "d"]


async def test_of_many_that_ask_at_once_one_may(store: Store) -> None:
    asked = StoredGuard(store, ManualClock())
    told = await asyncio.gather(*(asked.take(TARGET, f"run-{number}", CYCLE) for number in range(50)))
    assert told.count("") == 1
    told = await asyncio.gather(*(asked.take(("other", "", ""), "same", CYCLE) for _ in range(50)))
    assert (told.count(""), told.count(ONCE)) == (1, 49)


async def test_what_was_recorded_after_a_run_is_known(store: Store) -> None:
    clock = ManualClock()
    asked = StoredGuard(store, clock)
    assert await asked.after(TARGET, "") == {}
    began = clock.at
    for run in ("c", "b", "a"):
        assert await asked.take(TARGET, run, CYCLE) == ""
        assert await asked.take(("checkout", "iPhone 15", ""), f"phone-{run}", CYCLE) == ""
        clock.at += CYCLE
    assert await asked.after(TARGET, "") == {"c": began, "b": began + CYCLE, "a": began + 2 * CYCLE}
    assert list(await asked.after(TARGET, "c")) == ["b", "a"], "in the order of time"
    assert list(await asked.after(TARGET, "a")) == []
    assert list(await asked.after(TARGET, "not yet known to an older copy")) == []


async def test_only_the_newest_are_remembered(store: Store) -> None:
    clock = ManualClock()
    asked = StoredGuard(store, clock)
    for number in range(KEPT + 20):
        clock.at += CYCLE
        assert await asked.take(TARGET, f"run-{number:03}", CYCLE) == ""
    assert await recorded(store) == [f"run-{number:03}" for number in range(20, KEPT + 20)]
    await store.write(lambda c: guard.drop_old(c, clock.at + guard.LONGEST_CYCLE - 10 * CYCLE))
    assert len(await recorded(store)) == 11


async def test_what_could_still_refuse_a_second_order_outlives_every_retention(store: Store) -> None:
    clock = ManualClock()
    asked, week = StoredGuard(store, clock), guard.LONGEST_CYCLE
    assert await asked.take(TARGET, "a", week) == ""
    clock.at += week / 2 - 60
    await store.write(lambda c: guard.drop_old(c, clock.at - 3600))          # the shortest retention that can be set
    assert "at most once in" in await asked.take(TARGET, "b", week)


async def test_a_clock_that_was_set_back_costs_half_an_interval_and_no_second_order(store: Store) -> None:
    clock = ManualClock()
    asked = StoredGuard(store, clock)
    assert await asked.take(TARGET, "a", CYCLE) == ""
    clock.at -= 365 * 86400
    assert "submitted 0 s ago" in await asked.take(TARGET, "b", CYCLE)
    clock.at += 100
    assert "submitted 100 s ago" in (await asked.take(TARGET, "b", CYCLE)).replace("2 min", "100 s")
    clock.at += 50
    assert await asked.take(TARGET, "b", CYCLE) == ""


def asked_and_killed(folder: Path, run: str, now: float) -> str:
    """What the guard told a process of its own, which was then killed with SIGKILL."""
    child = subprocess.Popen([sys.executable, Path(__file__).with_name("guard_taker.py"), folder, run, str(now)], stdout=subprocess.PIPE, text=True,
                             cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    try:
        assert child.stdout
        return child.stdout.readline().strip()
    finally:
        child.kill()
        child.communicate()


def test_what_was_granted_before_a_kill_is_refused_after_it(tmp_path: Path) -> None:
    assert asked_and_killed(tmp_path, "a", 1_790_000_000.0) == "''"
    assert asked_and_killed(tmp_path, "b", 1_790_000_020.0) == "'run a of this probe submitted 20 s ago; at most once in 2 min'"
    assert asked_and_killed(tmp_path, "a", 1_790_000_900.0) == repr(ONCE)
    assert asked_and_killed(tmp_path, "c", 1_790_000_900.0) == "''"


@needs_root
async def test_on_a_full_disk_nothing_is_submitted(tmp_path: Path) -> None:
    """The store goes on in memory with what is essential. This is not: memory forgets when the process is killed."""
    with tmpfs(tmp_path / "disk", "size=4m,mode=0700") as disk:
        async with Store(disk, Limits(busy=0.05, retry=0.05)) as store:
            clock = ManualClock()
            asked = StoredGuard(store, clock)
            assert await asked.take(TARGET, "a", CYCLE) == ""
            filler = fill(disk)
            clock.at += CYCLE
            refused = await until_refused(asked, clock)
            assert "the disk is full" in refused
            assert refused.endswith("nothing is submitted that is not recorded first")
            await store.write(lambda c: c.execute("INSERT INTO meta VALUES ('x', 'y')"), essential=True)
            assert store.volatile
            filler.unlink()
            clock.at += CYCLE
            assert await asked.take(TARGET, "z", CYCLE) == ""
            assert (await recorded(store))[-1] == "z"


async def until_refused(asked: StoredGuard, clock: ManualClock) -> str:
    """A small row may still find a place in a page that is there."""
    for number in range(500):
        clock.at += CYCLE
        if told := await asked.take(TARGET, f"{'x' * 3000}-{number}", CYCLE):
            return told
    pytest.fail("the disk was never full")


async def test_while_another_program_holds_the_database_nothing_is_submitted(impatient: Store) -> None:
    asked = StoredGuard(impatient, ManualClock())
    with locked(impatient.path):
        assert "another program holds the database locked" in await asked.take(TARGET, "a", CYCLE)
    assert await asked.take(TARGET, "a", CYCLE) == ""


async def test_a_store_that_hangs_is_not_waited_for(store: Store) -> None:
    asked = StoredGuard(store, ManualClock(), patience=0.05)
    with locked(store.path):
        assert await asked.take(TARGET, "a", CYCLE) == "the store did not answer within 0.05 s: nothing is submitted that is not recorded first"
    await store.write(lambda _: None)
    assert await StoredGuard(store, ManualClock()).take(TARGET, "a", CYCLE) == ONCE, "it was written in the end: better none than two"


async def test_after_the_end_nothing_is_submitted(tmp_path: Path) -> None:
    async with Store(tmp_path) as store:
        asked = StoredGuard(store, ManualClock())
    assert "the store is closed" in await asked.take(TARGET, "a", CYCLE)
