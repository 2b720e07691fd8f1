"""What the scheduler does hour by hour."""

import asyncio
import math
from collections import Counter

import pytest
from virtual_time import START, Bench, job, jump

from monitor.jobs import phase
from monitor.scheduler import GRACE_SECONDS, STOP_SECONDS, Concurrency
from probes.sample import Outcome, Sample, Trigger


def at(name="home", **settings):
    """The phase of a lone probe of this name."""
    return phase(job(name, **settings), 0.02)


async def test_runs_keep_their_interval_for_hours_without_drift():
    async with Bench([job(interval=0.7, timeout=0.5)], takes=lambda _n: 0.013) as bench:
        await asyncio.sleep(7200)
    starts = [s for s, _ in bench.starts]
    assert len(starts) == math.ceil((7200 - at(interval=0.7)) / 0.7)
    assert max(abs(s - START - at(interval=0.7) - n * 0.7) for n, s in enumerate(starts)) < 1e-3
    assert bench.missed == []
    assert {s.trigger for s in bench.samples} == {Trigger.SCHEDULED}
    assert {s.spacing for s in bench.samples} == {0.7}


async def test_a_sample_says_when_it_began_and_ended_and_the_lateness_is_told():
    async with Bench([job()], takes=lambda _n: 2.5) as bench:
        await asyncio.sleep(30)
    sample, = bench.samples
    assert sample.ended - sample.started == pytest.approx(2.5)
    assert bench.of("home") == [pytest.approx(at(), abs=1e-3)]
    assert [(group, pytest.approx(0, abs=1e-3)) for group, _ in bench.late] == bench.late


async def test_a_run_that_takes_longer_than_the_interval_is_missed_and_never_piled_up():
    async with Bench([job(interval=10.0, timeout=100.0)], takes=lambda _n: 25.0) as bench:
        await asyncio.sleep(300)
    assert bench.most == 1
    gaps = {round(b - a, 3) for (a, _), (b, _) in zip(bench.starts, bench.starts[1:], strict=False)}
    assert gaps == {30.0}
    assert len(bench.starts) + len(bench.missed) == math.ceil((300 - at(interval=10.0)) / 10)


async def test_no_more_runs_of_a_kind_are_under_way_than_allowed_and_the_rest_queue_in_order():
    jobs = [job(f"b{i}", group="browser", timeout=100.0, interval=200.0) for i in range(12)] + [job("h", interval=200.0)]
    async with Bench(jobs, limits=Concurrency(browser=2), takes=lambda n: 60.0 if n != "h" else 1.0) as bench:
        await asyncio.sleep(199)
    order = [name for _, name in bench.starts if name != "h"]
    due = sorted((j.target[0] for j in jobs[:12]), key=lambda name: phase(job(name, interval=200.0), 0.02))
    assert order == due[:len(order)]
    assert 5 <= len(order) < 12
    assert bench.most <= 3
    assert bench.of("h") == [pytest.approx(phase(job("h", interval=200.0), 0.02), abs=1e-3)]
    assert max(s for group, s in bench.late if group == "browser") > 10
    assert max(s for group, s in bench.late if group == "http") < 0.01


async def test_while_a_run_waits_for_its_turn_the_next_one_is_missed_and_not_queued_too():
    jobs = [job("slow", group="browser", interval=1000.0, timeout=900.0), job("b", group="browser", interval=50.0)]
    async with Bench(jobs, takes=lambda n: 600.0 if n == "slow" else 1.0) as bench:
        await asyncio.sleep(2000)
    first = next(s for s, name in bench.starts if name == "slow")
    held = [s for s, name in bench.starts if name == "b" and first < s < first + 599]
    assert held == []
    waited = [s for s, name in bench.starts if name == "b" and first + 599 < s < first + 601]
    assert len(waited) == 1
    assert Counter(bench.missed)["b"] >= 10


async def test_a_probe_that_does_not_end_is_ended_from_outside_and_is_our_fault():
    async with Bench([job()], takes=lambda _n: 1e6) as bench:
        await asyncio.sleep(60)
    sample = bench.samples[0]
    assert (sample.outcome, sample.reason, sample.seconds) == (Outcome.BROKEN, "deadline", 10.0)
    assert sample.ended - sample.started == pytest.approx(10 + GRACE_SECONDS)
    assert (sample.probe, sample.trigger, sample.spacing) == ("home", Trigger.SCHEDULED, 30.0)


async def raising(_target):
    raise KeyError("x")


async def timing_out_by_itself(_target):
    raise TimeoutError


async def awaiting_something_cancelled(_target):
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    return await future


@pytest.mark.parametrize("run", [raising, timing_out_by_itself, awaiting_something_cancelled])
async def test_a_probe_that_raises_is_broken_internal_and_the_scheduler_lives_on(run):
    async with Bench([job()], run=run, again=lambda _s: False) as bench:
        failed = asyncio.create_task(bench.scheduler.failed())
        await asyncio.sleep(60)
        assert not failed.done()
        failed.cancel()
    assert {(s.outcome, s.reason, s.probe) for s in bench.samples} == {(Outcome.BROKEN, "internal", "home")}
    assert len(bench.samples) == 2


async def test_an_accept_that_raises_ends_the_daemon():
    def accept(_sample):
        raise ZeroDivisionError
    async with Bench([job(interval=1.0, timeout=0.5)], again=accept) as bench:
        with pytest.raises(ZeroDivisionError):
            await asyncio.wait_for(bench.scheduler.failed(), 5)


async def test_a_failed_run_is_repeated_after_recheck():
    async with Bench([job(recheck=4.0)], takes=lambda _n: 1.0, outcome=lambda _n: Outcome.FAILED) as bench:
        await asyncio.sleep(at() + 30)
    assert bench.of("home", Trigger.SCHEDULED) == [pytest.approx(at(), abs=1e-3)]
    assert bench.of("home", Trigger.RECHECK) == [pytest.approx(at() + n * 5, abs=2e-3) for n in range(1, 6)]


async def test_a_recheck_never_comes_when_the_next_regular_run_is_sooner():
    async with Bench([job(recheck=29.5)], takes=lambda _n: 1.0, outcome=lambda _n: Outcome.FAILED) as bench:
        await asyncio.sleep(300)
    assert {s.trigger for s in bench.samples} == {Trigger.SCHEDULED}
    assert len(bench.samples) == 10
    assert bench.missed == []


async def test_after_a_good_run_nothing_is_repeated():
    outcomes = iter([Outcome.FAILED, *[Outcome.OK] * 100])
    async with Bench([job(recheck=4.0)], outcome=lambda _n: next(outcomes)) as bench:
        await asyncio.sleep(300)
    assert [s.trigger for s in bench.samples].count(Trigger.RECHECK) == 1


async def test_a_good_burst_run_takes_back_the_recheck():
    outcomes = iter([Outcome.FAILED, *[Outcome.OK] * 100])
    async with Bench([job(recheck=12.0, fast=7.5)], outcome=lambda _n: next(outcomes)) as bench:
        bench.scheduler.hurry([("home", "", "")], math.inf)
        await asyncio.sleep(100)
    assert Trigger.RECHECK not in {s.trigger for s in bench.samples}


async def test_rechecks_do_not_move_the_regular_runs():
    async with Bench([job(recheck=7.0)], outcome=lambda _n: Outcome.FAILED) as bench:
        await asyncio.sleep(3600)
    assert bench.of("home", Trigger.SCHEDULED) == [pytest.approx(at() + 30 * n, abs=1e-3) for n in range(120)]


async def test_leaving_cancels_what_runs_and_says_nothing_of_it():
    async def stubborn(_target):
        try:
            await asyncio.sleep(9)
        except asyncio.CancelledError:
            return Sample(probe="stubborn", outcome=Outcome.FAILED)      # swallowed: still no word
        return Sample(probe="home", outcome=Outcome.OK)
    jobs = [job("stubborn", interval=10.0), *(job(f"p{i}", interval=10.0) for i in range(20))]
    async with Bench(jobs, limits=Concurrency(http=5), run=stubborn) as bench:
        jump(10.0)
        await asyncio.sleep(0.1)
        assert bench.under_way == 5
        started = len(bench.starts)
    assert bench.under_way == 0
    assert bench.samples == []
    await asyncio.sleep(100)
    assert len(bench.starts) == started


async def test_a_probe_that_cannot_be_stopped_does_not_hold_up_the_end():
    async def stuck(_target):
        while True:
            try:
                await asyncio.sleep(1e3)
            except asyncio.CancelledError:
                if release.is_set():
                    raise
    release = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with Bench([job(interval=1.0, timeout=1e6)], run=stuck):
        await asyncio.sleep(1.5)
        begun = loop.time()
    assert loop.time() - begun == pytest.approx(STOP_SECONDS, abs=0.1)
    release.set()
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        task.cancel()
    await asyncio.sleep(0)


async def test_a_suspended_loop_makes_no_storm():
    """An hour passes in which nothing ran: every probe runs once, the rest is counted as missed, and the grid is kept."""
    jobs = [job(f"p{i}", heavy=i % 2 == 0, fast=7.5) for i in range(40)]
    async with Bench(jobs) as bench:
        bench.scheduler.hurry([j.target for j in jobs], 7200.0)
        await asyncio.sleep(0.001)
        bench.scheduler.relax()
        jump(3600.0)
        await asyncio.sleep(1.0)
        storm = Counter(name for t, name in bench.starts if t >= START + 3600)
        before = Counter(name for t, name in bench.starts if t < START + 3600)
        await asyncio.sleep(60.0)
    assert set(storm.values()) <= {1, 2}
    assert all(storm[n] == 1 or phase(job(n, heavy=int(n[1:]) % 2 == 0), 0.02) <= 1.01 for n in storm)
    assert len(storm) == 40
    missed = Counter(bench.missed)
    for one in jobs:
        name = one.target[0]
        assert before[name] + missed[name] + storm[name] in {120, 121}
        mine = [t for t, n in bench.starts if n == name and t > START + 3601]
        assert [round((t - START - phase(one, 0.02)) / 30, 3) % 1 for t in mine] == [0.0, 0.0]


async def test_overload_is_seen_when_the_loop_lags_and_forgotten_after_two_seconds():
    async with Bench([job(interval=0.5, timeout=0.4)]) as bench:
        await asyncio.sleep(3)
        assert not bench.scheduler.overloaded
        jump(0.9)
        await asyncio.sleep(0.01)
        assert bench.scheduler.overloaded
        assert max(bench.lags) > 0.1
        await asyncio.sleep(2.6)
        assert not bench.scheduler.overloaded
    flags = [(s.ended - 1_790_000_000.0 - START, s.overloaded) for s in bench.samples]
    assert any(flag for _, flag in flags)
    assert not any(flag for ended, flag in flags if ended < 3 or ended > 6.5)


async def test_a_lag_counts_before_it_is_measured():
    """The loop hands out what came from the network before it runs its timers: a run may end before the lag is known."""
    async with Bench([job()]) as bench:
        await asyncio.sleep(0.6)
        jump(2.0)
        assert bench.scheduler.overloaded


async def test_a_long_run_knows_that_the_host_was_overloaded_in_its_middle():
    async with Bench([job(interval=100.0, timeout=90.0)], takes=lambda _n: 60.0) as bench:
        await asyncio.sleep(at(interval=100.0) + 10)
        jump(1.0)
        await asyncio.sleep(60)
        assert not bench.scheduler.overloaded
        await asyncio.sleep(100)
    assert [s.overloaded for s in bench.samples] == [True, False]


async def test_a_sample_that_calls_itself_overloaded_stays_so():
    async def run(_target):
        return Sample(probe="home", outcome=Outcome.OK, overloaded=True)
    async with Bench([job()], run=run) as bench:
        await asyncio.sleep(30)
    assert [s.overloaded for s in bench.samples] == [True]


async def test_a_scheduler_whose_timer_is_lost_says_how_far_it_is_behind():
    async with Bench([job(interval=1.0, timeout=0.5)]) as bench:
        await asyncio.sleep(100)
        assert bench.scheduler.behind == 0.0
        bench.scheduler._timer.cancel()
        await asyncio.sleep(20)
        assert bench.scheduler.behind >= 18.0


async def test_no_job_is_no_problem():
    async with Bench([]) as bench:
        await asyncio.sleep(5)
    assert bench.starts == []
