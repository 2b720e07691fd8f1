"""How soon harm of a known size is found."""

from dataclasses import replace
from statistics import median

import pytest
from judge_runs import (
    SPACING,
    alarm_after,
    before_and_after,
    failing,
    first_alarm,
    frozen,
    in_turn,
    series,
    slower,
    subject,
)

from monitor.judge.verdict import Case, Judging


@pytest.mark.parametrize("count", [20, 90, 400])
def test_an_outage_of_a_clean_probe_is_seen_within_three_runs(count):
    before, after = before_and_after(count, 10)
    assert alarm_after(before, failing(after, 1.0)) <= 3


def test_twice_as_slow_is_found_within_eight_runs_in_the_median():
    found = []
    for seed in range(60):
        before, after = before_and_after(400, 60, seed, sigma=0.3, memory=0.2)
        found.append(alarm_after(before, slower(after, 2.0)))
    assert sum(count is not None for count in found) >= 57
    assert median(count or 99 for count in found) <= 8


def test_one_failure_in_five_is_found_within_sixty_runs():
    found = []
    for seed in range(40):
        before, after = before_and_after(400, 60, seed, fails=0.005)
        found.append(alarm_after(before, failing(after, 0.2, seed)))
    assert sum(count is not None for count in found) >= 38
    assert median(count or 99 for count in found) <= 15


def test_a_slow_tail_is_found_although_the_median_stays():
    found = 0
    for seed in range(40):
        before, after = before_and_after(400, 60, seed)
        after = [replace(run, seconds=run.seconds * (5 if number % 7 == 3 else 1)) for number, run in enumerate(after)]
        found += alarm_after(before, after) is not None
    assert found >= 34


@pytest.mark.parametrize("onset", [100, 200])
def test_harm_that_begins_late_in_a_long_watch_is_still_found_soon(onset):
    slow, fail, dead = [], [], []
    for seed in range(20):
        before, after = before_and_after(400, 240, seed, sigma=0.3)
        late = after[:onset] + slower(after[onset:], 2.0)
        slow.append((alarm_after(before, late, watch=7200.0) or 999) - onset)
        late = after[:onset] + failing(after[onset:], 0.5, seed)
        fail.append((alarm_after(before, late, watch=7200.0) or 999) - onset)
        dead.append((alarm_after(before, after[:onset] + failing(after[onset:], 1.0), watch=7200.0) or 999) - onset)
    assert 0 < median(slow) <= 10
    assert 0 < median(dead) <= 8
    assert 0 < median(fail) <= 12


def _alarm_among(targets, sick, harm, watched=60):
    shops, baselines = {}, []
    for number, target in enumerate(targets):
        before, after = before_and_after(120, watched, number)
        shops[target.key] = harm(after) if number == sick else after
        baselines.append(frozen(before, target))
    case = Case(baselines, Judging())
    rounds = 0
    for key, run in in_turn(shops):
        case.add(key, run, warm=False)
        rounds += key == targets[sick].key
        if case.alarm:
            return rounds, case
    return None, case


@pytest.mark.parametrize(("harm", "most"), [(lambda runs: failing(runs, 1.0), 6), (lambda runs: slower(runs, 2.0), 10)])
@pytest.mark.parametrize("critical", [True, False])
def test_one_sick_probe_among_forty_is_found_in_few_runs_and_named(harm, most, critical):
    targets = [subject(f"p{number}", critical=critical and number % 4 == 1) for number in range(40)]
    rounds, case = _alarm_among(targets, 13, harm)
    assert rounds is not None
    assert rounds <= most
    ruling = case.ruling(final=False)
    assert ruling.verdict == "regression"
    assert "*p13*" in ruling.sentence
    assert {row.probe for row in ruling.signals if row.guilty} == {"p13"}


def test_an_outage_of_one_uncritical_probe_among_two_hundred_is_found():
    targets = [subject(f"p{number}", critical=number < 5) for number in range(200)]
    rounds, _ = _alarm_among(targets, 77, lambda runs: failing(runs, 1.0), watched=15)
    assert rounds is not None
    assert rounds <= 12


def test_failures_during_the_warm_up_count_and_slowness_does_not():
    before, after = before_and_after(400, 30)
    case = Case([frozen(before)], Judging())
    for run in slower(after, 3.0):
        case.add(("home", "", ""), run, warm=True)
    assert case.alarm is None
    assert "30 runs in the warm-up not judged" in case.ruling(final=False).signals[1].note
    case = Case([frozen(before)], Judging())
    for run in failing(after[:3], 1.0):
        case.add(("home", "", ""), run, warm=True)
    assert case.alarm is not None


def test_times_on_an_overloaded_host_are_not_judged_but_outcomes_are():
    before, after = before_and_after(400, 60)
    busy = [replace(run, overloaded=True) for run in slower(after, 5.0)]
    assert alarm_after(before, busy) is None
    assert alarm_after(before, failing(busy, 1.0)) <= 3


def test_runs_at_another_spacing_are_not_judged():
    before, _ = before_and_after(400, 1)
    case = Case([frozen(before)], Judging())
    fast = failing(series(60, 5, spacing=SPACING / 4), 1.0)
    assert first_alarm(case, fast) is None
    assert "60 runs at another spacing not judged" in case.ruling(final=True).signals[0].note


def test_a_burst_is_judged_by_the_baseline_of_its_own_spacing():
    usual, bursts = series(400), series(200, 1, spacing=SPACING / 4, median=0.15)
    case = Case([frozen(usual), frozen(bursts, spacing=SPACING / 4)], Judging())
    after = slower(series(30, 2, spacing=SPACING / 4, median=0.15), 2.0)
    assert first_alarm(case, after) <= 8
