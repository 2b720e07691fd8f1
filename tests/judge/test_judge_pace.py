"""At which pace a hurried target is judged: what remembers by its regular grid, what does not by all of its runs."""

import random
from dataclasses import replace
from math import exp

import pytest
from judge_runs import slower, subject

from monitor.judge.baseline import Baseline, freeze
from monitor.judge.signals import Run
from monitor.judge.verdict import Case, Judging

FAST, REGULAR = 10.0, 30.0
START = 1_700_000_000.0


def stream(begin, seconds, memory, seed=1):
    """Runs every 10 s, of which every third is on the regular grid; durations forget themselves within `memory` s."""
    rng = random.Random(seed)
    kept, level, out = exp(-FAST / memory) if memory else 0.0, rng.gauss(0, 1), []
    for place in range(int(seconds / FAST)):
        level = kept * level + (1 - kept * kept) ** 0.5 * rng.gauss(0, 1)
        out.append(Run(START + begin + place * FAST, True, 0.2 * exp(0.2 * level), FAST, regular=place % 3 == 0))
    return out


def hurried(memory, seed=1) -> Baseline:
    """Bursts of five minutes every hour, and the regular runs of a day."""
    day = stream(-86_400, 86_400, memory, seed)
    bursts = [run for run in day if (run.at - START) % 3600 < 300]
    regular = [replace(run, spacing=REGULAR) for run in day if run.regular]
    return freeze(subject(), bursts, spacing=FAST, horizon=0, regular=regular, interval=REGULAR)


def case_of(baseline, runs):
    case = Case([baseline], Judging(), watch=7200)
    for run in runs:
        case.add(("home", "", ""), run, warm=False)
        if case.alarm:
            break
    return case


@pytest.mark.parametrize(("memory", "interval"), [(0.0, 0.0), (60.0, REGULAR), (300.0, REGULAR)])
def test_durations_with_a_memory_are_judged_by_the_regular_grid(memory, interval):
    success, duration = hurried(memory).signals
    assert (success.interval, duration.interval) == (0.0, interval)
    case = case_of(hurried(memory), stream(0, 600, memory, 2))
    seen = {row.signal: row.n_after for row in case.ruling(final=False).signals}
    assert seen == {"success": 60, "duration": 60 if not interval else 20}


def test_the_pace_is_stored_with_the_baseline():
    baseline = hurried(60.0)
    assert Baseline.from_dict(baseline.to_dict()).signals[1].interval == REGULAR


@pytest.mark.parametrize("memory", [60.0, 300.0])
def test_a_shop_that_remembers_is_not_called_worse_in_two_hours(memory):
    alarms = [case_of(hurried(memory, seed), stream(0, 7200, memory, 100 + seed)).alarm is not None for seed in range(12)]
    assert sum(alarms) <= 1


def test_twice_as_slow_is_found_at_either_pace():
    for memory, most in ((0.0, 120), (60.0, 900)):
        case = case_of(hurried(memory), slower(stream(0, 3600, memory, 3), 2.0))
        assert case.alarm
        assert case.alarm.at - START <= most


def test_failures_that_last_half_a_minute_are_no_outage_at_the_fast_pace():
    """Three failed runs in a row at 10 s are one at 30 s."""
    clean = hurried(0.0)
    blip = [replace(run, ok=not 300 <= run.at - START < 330) for run in stream(0, 900, 0.0, 4)]
    down = [replace(run, ok=run.at - START < 300) for run in stream(0, 900, 0.0, 4)]
    assert case_of(clean, blip).alarm is None
    assert case_of(clean, down).alarm.at - START <= 300 + 120


def test_a_baseline_of_another_version_judges_nothing_and_says_so():
    stored = hurried(0.0).to_dict() | {"method": 1}
    baseline = Baseline.from_dict(stored)
    assert all(row.fit is None for row in baseline.signals)
    ruling = Case([baseline], Judging()).ruling(final=True, over=True)
    assert (ruling.verdict, ruling.reason) == ("inconclusive", "baseline_too_short")
    assert "another version" in ruling.missing[0]
