"""Faster while an update is watched, and in bursts."""

import asyncio
import math
from collections import Counter

import pytest
from virtual_time import START, Bench, VirtualLoop, job, jump

from monitor.jobs import phase
from probes.sample import Trigger

HOME = ("home", "", "")
REGULAR, BURST = Trigger.SCHEDULED, Trigger.BURST


def one(**settings):
    return job(**{"interval": 30.0, "fast": 7.5, "timeout": 5.0} | settings)


PHASE = phase(one(), 0.02)


def grid(first: int, last: int):
    """Times on the fast grid, 0 being the first regular run."""
    return [pytest.approx(PHASE + 7.5 * n, abs=2e-3) for n in range(first, last)]


async def test_burst_runs_stand_on_a_grid_between_the_regular_ones():
    async with Bench([one()]) as bench:
        bench.scheduler.hurry([HOME], math.inf)
        await asyncio.sleep(3600)
    before = int(PHASE / 7.5)
    assert bench.of("home", REGULAR) == [pytest.approx(PHASE + 30 * n, abs=2e-3) for n in range(120)]
    assert bench.of("home") == grid(-before, 480 - before)
    assert Counter(s.trigger for s in bench.samples) == {REGULAR: 120, BURST: 360}
    assert {s.spacing for s in bench.samples} == {7.5}
    assert bench.missed == []


async def test_after_relax_only_the_regular_runs_go_on_with_their_own_spacing():
    async with Bench([one()]) as bench:
        bench.scheduler.hurry([HOME], math.inf)
        await asyncio.sleep(600)
        assert bench.scheduler.spacing(HOME) == 7.5
        bench.scheduler.relax()
        assert bench.scheduler.spacing(HOME) == 30.0
        count = len(bench.samples)
        await asyncio.sleep(600)
    assert {(s.trigger, s.spacing) for s in bench.samples[count:]} == {(REGULAR, 30.0)}
    assert len(bench.samples[count:]) == 20


async def test_a_burst_ends_by_itself():
    async with Bench([one()]) as bench:
        await asyncio.sleep(100)
        bench.scheduler.hurry([HOME], 300.0)
        await asyncio.sleep(1000)
    bursts = bench.of("home", BURST)
    assert 29 <= len(bursts) <= 31
    assert min(bursts) > 100
    assert max(bursts) < 400


async def test_hurrying_twice_does_not_double_the_runs():
    async with Bench([one()]) as bench:
        for pause in (0.0, 3.0, 40.0):
            await asyncio.sleep(pause)
            bench.scheduler.hurry([HOME], math.inf)
        await asyncio.sleep(3600 - 43)
    assert len(bench.samples) == 480
    assert bench.missed == []


async def test_hurrying_again_right_after_relaxing_does_not_double_the_runs():
    """One update ends, the next begins, and the burst run that was due is still on the heap."""
    async with Bench([one()]) as bench:
        for _ in range(5):
            bench.scheduler.hurry([HOME], math.inf)
            await asyncio.sleep(1.0)
            bench.scheduler.relax()
        bench.scheduler.hurry([HOME], math.inf)
        await asyncio.sleep(3595)
    assert len(bench.samples) == 480
    assert bench.missed == []


async def test_a_burst_that_follows_one_that_just_ended_does_not_double_the_runs():
    async with Bench([one()]) as bench:
        await asyncio.sleep(PHASE + 0.1)
        bench.scheduler.hurry([HOME], 10.0)
        await asyncio.sleep(11.0)
        bench.scheduler.hurry([HOME], 3000.0)
        await asyncio.sleep(2000.0)
    assert bench.missed == []
    assert bench.of("home") == grid(0, len(bench.samples))


async def test_a_shorter_burst_does_not_end_a_longer_one():
    async with Bench([one()]) as bench:
        bench.scheduler.hurry([HOME], math.inf)
        bench.scheduler.hurry([HOME], 10.0)
        await asyncio.sleep(3600)
    assert len(bench.samples) == 480


async def test_probes_that_cannot_be_faster_and_unknown_ones_are_left_alone():
    async with Bench([job("slow")]) as bench:
        bench.scheduler.hurry([("slow", "", ""), ("gone", "", "")], math.inf)
        assert bench.scheduler.spacing(("slow", "", "")) == 30.0
        await asyncio.sleep(300)
    assert len(bench.samples) == 10
    assert {(s.trigger, s.spacing) for s in bench.samples} == {(REGULAR, 30.0)}


async def test_burst_runs_that_overrun_are_missed_and_regular_ones_go_on():
    async with Bench([one(timeout=20.0)], takes=lambda _n: 10.0) as bench:
        bench.scheduler.hurry([HOME], math.inf)
        await asyncio.sleep(3600)
    assert bench.most == 1
    assert len(bench.starts) + len(bench.missed) == 480
    assert len(bench.starts) == pytest.approx(240, abs=2)


async def test_after_a_long_stand_still_the_bursts_are_on_their_grid_again():
    async with Bench([one()]) as bench:
        bench.scheduler.hurry([HOME], math.inf)
        await asyncio.sleep(100)
        jump(3600)
        await asyncio.sleep(0.2)
        woken = [t for t, _ in bench.starts if t >= START + 3700]
        assert len(woken) == 1
        await asyncio.sleep(100)
    later = [t - START - PHASE for t, _ in bench.starts if t > START + 3701]
    assert all(abs(t / 7.5 - round(t / 7.5)) < 1e-3 for t in later)
    assert len(later) in {13, 14}


def test_timers_that_fire_a_little_early_make_no_second_run():
    """uvloop counts in whole milliseconds, and wakes up to half of one too soon."""
    async def story():
        async with Bench([one()]) as bench:
            bench.scheduler.hurry([HOME], math.inf)
            await asyncio.sleep(3600)
        return bench
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(early=0.0004)) as runner:
        bench = runner.run(story())
    assert bench.missed == []
    assert len(bench.samples) == 480
