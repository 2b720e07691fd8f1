"""Other jobs while the scheduler runs; and a machine that stands still."""

import asyncio
import math
from dataclasses import replace
from itertools import pairwise

import pytest
from virtual_time import START, Bench, job, jump

from monitor.jobs import phase
from monitor.scheduler import Concurrency
from probes.sample import Outcome

LIMITS = Concurrency()
DURING = phase(job("home"), 0.02) + 1.0     # s: a second into the first run of "home"


def starts(bench: Bench, name: str) -> list[float]:
    return [at - START for at, found in bench.starts if found == name]


async def test_who_is_not_changed_keeps_its_grid_through_fifty_changes():
    async with Bench([job("home"), job("other")]) as bench:
        for turn in range(50):
            await asyncio.sleep(7.3)
            bench.scheduler.change([job("home"), *[job(f"new-{turn}-{n}") for n in range(turn % 3)]], LIMITS)
        await asyncio.sleep(100)
    at = phase(job("home"), 0.02)
    found = starts(bench, "home")
    assert found == [pytest.approx(at + 30 * n, abs=1e-3) for n in range(len(found))]
    assert len(found) == math.ceil((50 * 7.3 + 100 - at) / 30)
    assert bench.missed == []


async def test_a_new_job_begins_within_its_interval_on_the_grid_that_a_restart_gives_it():
    async with Bench([job("home")]) as bench:
        await asyncio.sleep(1000)
        bench.scheduler.change([job("home"), job("new")], LIMITS)
        await asyncio.sleep(95)
    found = starts(bench, "new")
    assert 1000 <= found[0] <= 1030
    assert len(found) == 3 or len(found) == 4
    assert (found[0] - phase(job("new"), 0.02)) % 30 == pytest.approx(0, abs=1e-3)


async def test_one_that_goes_ends_its_run_and_nobody_hears_of_it():
    async with Bench([job("home"), job("gone")], takes=lambda _n: 5.0) as bench:
        await asyncio.sleep(phase(job("gone"), 0.02) + 1)
        assert [name for _, name in bench.starts if name == "gone"] == ["gone"]
        bench.scheduler.change([job("home")], LIMITS)
        await asyncio.sleep(100)
    assert {s.probe for s in bench.samples} == {"home"}
    assert starts(bench, "gone") == starts(bench, "gone")[:1]
    assert bench.under_way <= 1
    assert bench.missed == []


async def test_one_that_goes_and_comes_back_during_its_run_is_run_anew_without_the_old_sample():
    async with Bench([job("home")], takes=lambda _n: 5.0) as bench:
        await asyncio.sleep(phase(job("home"), 0.02) + 1)
        bench.scheduler.change([], LIMITS)
        bench.scheduler.change([job("home")], LIMITS)
        await asyncio.sleep(70)
    assert len(bench.starts) == len(bench.samples) + 1


async def test_one_that_goes_in_the_very_turn_in_which_its_run_starts_takes_nothing_with_it():
    async with Bench([job("home")]) as bench:
        asyncio.get_running_loop().call_at(bench.scheduler._heap[0][0] + 1e-6, bench.scheduler.change, [], LIMITS)
        jump(phase(job("home"), 0.02) + 1)
        await asyncio.sleep(5)
        assert not bench.scheduler._failed.done()
        assert bench.scheduler._groups["http"].busy == 0
        assert bench.starts == []


async def test_the_run_of_one_that_has_gone_is_ended_with_the_rest():
    async with Bench([job("home")], takes=lambda _n: 5.0) as bench:
        await asyncio.sleep(phase(job("home"), 0.02) + 1)
        bench.scheduler.change([], LIMITS)
        assert bench.under_way == 1
    assert bench.under_way == 0


@pytest.mark.parametrize("interval", [5.0, 10.0, 29.0, 31.0, 60.0, 300.0])
@pytest.mark.parametrize("moment", [0.5, 12.0, 29.0, 30.5, 47.0, 59.9, 1000.1])
async def test_a_changed_interval_leaves_no_gap_and_doubles_no_run(interval: float, moment: float):
    async with Bench([job("home", timeout=4.0)]) as bench:
        await asyncio.sleep(moment)
        bench.scheduler.change([job("home", interval=interval, timeout=4.0)], LIMITS)
        await asyncio.sleep(1000)
    found = starts(bench, "home")
    assert all(b - a <= max(30.0, interval) + 1e-3 for a, b in pairwise(found))
    assert all(b - a >= min(30.0, interval) - 1e-3 for a, b in pairwise(found))
    assert {round(b - a, 3) for a, b in pairwise(found[-3:])} == {interval}
    assert bench.missed == []


async def test_many_intervals_that_shrink_at_once_do_not_start_at_once():
    jobs = [job(f"p{n}", interval=300.0) for n in range(600)]
    async with Bench(jobs) as bench:
        await asyncio.sleep(250)
        count = len(bench.starts)
        bench.scheduler.change([replace(one, interval=30.0) for one in jobs], LIMITS)
        await asyncio.sleep(30)
    later = [at for at, _ in bench.starts[count:]]
    assert len(later) >= 590
    assert max(sum(a <= b < a + 1 for b in later) for a in later) < 60


async def test_a_change_during_an_update_keeps_the_hurry_and_doubles_no_burst():
    fast = job("home", fast=7.5, timeout=5.0)
    async with Bench([fast]) as bench:
        bench.scheduler.hurry([fast.target], math.inf)
        for _ in range(20):
            await asyncio.sleep(11)
            bench.scheduler.change([replace(fast, recheck=5.0 + _)], LIMITS)
        await asyncio.sleep(100)
    found = starts(bench, "home")
    assert all(b - a == pytest.approx(7.5, abs=1e-2) for a, b in pairwise(found))


async def test_more_room_lets_those_in_who_wait():
    jobs = [job(f"b{n}", group="browser", interval=1000.0, timeout=900.0) for n in range(5)]
    async with Bench(jobs, takes=lambda _n: 5000.0) as bench:
        await asyncio.sleep(999)
        assert bench.under_way == 1
        bench.scheduler.change(jobs, Concurrency(browser=3))
        await asyncio.sleep(1)
        assert bench.under_way == 3


# ---- a machine that stands still


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.OK])
async def test_a_run_that_failed_while_the_process_stood_still_is_broken_and_one_that_was_fine_is_fine(outcome: Outcome):
    async with Bench([job("home")], takes=lambda _n: 5.0, outcome=lambda _n: outcome, again=lambda _s: False) as bench:
        await asyncio.sleep(DURING)
        jump(3.0)
        await asyncio.sleep(60)
    first, *later = [(s.outcome, s.reason) for s in bench.samples]
    assert first == ((Outcome.BROKEN, "suspended") if outcome is Outcome.FAILED else (Outcome.OK, ""))
    assert later, "the first cycle afterwards comes within an interval"
    assert {found for found, _ in later} == {outcome}, "and counts"


async def test_a_run_that_did_not_end_because_the_process_stood_still_says_so():
    async with Bench([job("home")], takes=lambda _n: 5.0, again=lambda _s: False) as bench:
        await asyncio.sleep(DURING)
        jump(600.0)
        await asyncio.sleep(50)
    assert [(s.outcome, s.reason) for s in bench.samples][:2] == [(Outcome.BROKEN, "suspended"), (Outcome.OK, "")]
    assert len(bench.missed) == pytest.approx(20, abs=1)


async def test_a_second_of_lag_is_no_standing_still():
    async with Bench([job("home")], takes=lambda _n: 5.0, outcome=lambda _n: Outcome.FAILED, again=lambda _s: False) as bench:
        await asyncio.sleep(DURING)
        jump(0.9)
        await asyncio.sleep(20)
    assert [s.outcome for s in bench.samples] == [Outcome.FAILED]


async def test_a_suspended_machine_is_seen_by_the_clock_that_goes_on():
    """The loop's clock stands while the machine is suspended, the other does not."""
    told: list[float] = []
    async with Bench([job("home", interval=30.0)], takes=lambda _n: 5.0, outcome=lambda _n: Outcome.FAILED, again=lambda _s: False) as bench:
        bench.scheduler._hooks.stood_still = told.append
        await asyncio.sleep(DURING)
        bench.scheduler._clock._offset += 600.0
        await asyncio.sleep(60)
    assert (bench.samples[0].outcome, bench.samples[0].reason) == (Outcome.BROKEN, "suspended")
    assert {s.outcome for s in bench.samples[1:]} == {Outcome.FAILED}
    assert told == [pytest.approx(600, abs=0.1)]
    assert bench.missed == ["home"] * 20
    found = starts(bench, "home")
    assert max(b - a for a, b in pairwise(found)) == pytest.approx(30.0, abs=1e-3), "the schedule goes on where it was"
