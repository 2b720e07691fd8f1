"""Where in its interval a probe starts."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from virtual_time import START, Bench, job, jump

from monitor.jobs import SLOT_PROBES, SLOT_SECONDS, phase, slot_width
from monitor.scheduler import Concurrency

MANY = [job(f"probe-{i}") for i in range(1000)]


def test_the_phase_is_the_same_in_every_process():
    code = ("import json; from monitor.jobs import Job, phase; "
            "print(json.dumps([phase(Job((f'probe-{i}', '', ''), 'http', 30.0, 10.0, 10.0, 30.0), 0.02) for i in range(50)]))")
    runs = [subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
                           capture_output=True, text=True, check=True).stdout for seed in ("1", "2")]
    assert json.loads(runs[0]) == json.loads(runs[1]) == [phase(j, 0.02) for j in MANY[:50]]


def test_phases_are_spread_evenly_over_the_interval():
    """chi-square over 30 bins of 1000 phases: 29 degrees of freedom, 99.9 % of fair hashes stay below 58.3."""
    for jobs in (MANY, [replace(j, heavy=True) for j in MANY]):
        bins = Counter(int(phase(j, 0.01)) for j in jobs)
        assert sum((bins[i] - 1000 / 30) ** 2 / (1000 / 30) for i in range(30)) < 58.3


@given(st.text(max_size=20), st.text(max_size=5), st.floats(0.25, 86400.0), st.booleans())
def test_a_phase_lies_within_the_interval_and_plain_probes_begin_on_a_slot(name, cohort, interval, heavy):
    one = replace(job(name, interval=interval, heavy=heavy), target=(name, "", cohort))
    at = phase(one, SLOT_SECONDS)
    assert 0 <= at < interval
    assert heavy or abs(at / SLOT_SECONDS - round(at / SLOT_SECONDS)) < 1e-6


def test_devices_and_cohorts_of_a_probe_start_apart():
    targets = [("home", "", ""), ("home", "iPhone 15", ""), ("home", "", "canary"), ("homei", "Phone 15", "")]
    assert len({phase(replace(job(heavy=True), target=t), 0.02) for t in targets}) == 4


def test_slots_are_narrower_for_more_probes_but_never_wider_than_a_few_milliseconds():
    assert slot_width(MANY[:10]) == SLOT_SECONDS
    widths = [slot_width([job(f"p{i}", interval=1.0) for i in range(count)]) for count in (100, 1000, 10_000)]
    assert widths == sorted(widths, reverse=True)
    for count, width in zip((1000, 10_000), widths[1:], strict=True):
        assert SLOT_PROBES * 0.7 < width * count <= SLOT_PROBES * 1.5
    assert slot_width([job(f"p{i}", interval=1.0, heavy=True) for i in range(10_000)]) == SLOT_SECONDS


async def test_a_thousand_probes_do_not_start_together():
    jobs = [job(f"p{i}", heavy=i % 2 == 0) for i in range(1000)]
    async with Bench(jobs) as bench:
        await asyncio.sleep(30.0)
    per_second = Counter(int(at - START) for at, _ in bench.starts)
    assert len(bench.starts) == 1000
    assert max(per_second.values()) < 70
    assert bench.most < 30


async def test_plain_probes_share_their_wake_ups():
    """1000 plain probes every second: about SLOT_PROBES of them start in one turn of the loop."""
    async with Bench([job(f"p{i}", interval=1.0, timeout=0.5) for i in range(1000)], takes=lambda _n: 0.0) as bench:
        await asyncio.sleep(1.0)
    turns = Counter(turn for turn, _ in bench.turns)
    assert len(bench.turns) == 1000
    assert len(turns) < 400
    assert max(turns.values()) < 6 * SLOT_PROBES


async def test_a_heavy_probe_starts_alone_in_its_turn_even_when_many_are_due_at_once():
    jobs = [job(f"h{i}", heavy=True) for i in range(200)]
    async with Bench(jobs, limits=Concurrency(http=1000), takes=lambda _n: 1.0) as bench:
        jump(30.0)                                             # all are due
        await asyncio.sleep(0.5)
    turns = Counter(turn for turn, _ in bench.turns)
    assert len(bench.turns) == 200
    assert set(turns.values()) == {1}


async def test_ten_thousand_jobs_start_and_run():
    jobs = [job(f"p{i}", interval=60.0, heavy=i % 10 == 0) for i in range(10_000)]
    async with Bench(jobs, limits=Concurrency(http=10_000)) as bench:
        await asyncio.sleep(60.2)
    runs = Counter(name for _, name in bench.starts)
    assert len(runs) == 10_000
    assert bench.missed == []


@pytest.mark.parametrize("more", [1, 100])
def test_a_new_probe_moves_hardly_any_other(more):
    before = {j.target: phase(j, slot_width(MANY)) for j in MANY}
    jobs = [*MANY, *(job(f"new-{i}") for i in range(more))]
    after = {j.target: phase(j, slot_width(jobs)) for j in jobs}
    assert sum(before[t] != after[t] for t in before) == 0
