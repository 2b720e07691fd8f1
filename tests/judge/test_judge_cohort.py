"""A canary beside its control cohort: blamed when it stands out, not when the world got worse for both."""

from dataclasses import replace
from math import pi, sin

import pytest
from judge_runs import SPACING, before_and_after, failing, frozen, in_turn, slower, subject

from monitor.judge.verdict import Case, Judging

CONTROL = subject("home")
CANARY = replace(subject("home-canary"), cohort="canary", beside="home")


def judged(harm, phase="canary", *, canary_past=400, seed=1):
    """The case of both, with `harm` = {subject: change of its runs}."""
    baselines, shops = [], {}
    for number, target in enumerate((CONTROL, CANARY)):
        before, after = before_and_after(400, 60, seed * 10 + number)
        baselines.append(frozen(before[-canary_past:] if target is CANARY else before, target))
        shops[target.key] = harm.get(target.probe, list)(after)
    case = Case(baselines, Judging(), watch=60 * SPACING, phase=phase)
    for key, run in in_turn(shops):
        case.add(key, run, warm=False)
    return case


BADLY = {
    "half as slow again": lambda runs: slower(runs, 1.5),
    "a fifth fails": lambda runs: failing(runs, 0.2),
    "down": lambda runs: failing(runs, 1.0),
}


@pytest.mark.parametrize("harm", BADLY)
def test_a_canary_that_alone_gets_worse_is_blamed(harm):
    ruling = judged({"home-canary": BADLY[harm]}).ruling(final=False)
    assert ruling.verdict == "regression"
    assert {row.probe for row in ruling.signals if row.guilty} == {"home-canary"}


@pytest.mark.parametrize("harm", BADLY)
@pytest.mark.parametrize("seed", range(4))
def test_what_hits_both_cohorts_is_not_this_update(harm, seed):
    ruling = judged({"home": BADLY[harm], "home-canary": BADLY[harm]}, seed=seed).ruling(final=False)
    assert ruling.verdict == "watching"
    assert {"control_alike"} <= {row.why for row in ruling.signals if row.probe == "home-canary"} or ruling.reason == "control_worse"


def test_the_same_harm_is_the_updates_once_it_is_everywhere():
    harm = BADLY["half as slow again"]
    assert judged({"home": harm, "home-canary": harm}, phase="all").ruling(final=False).verdict == "regression"


def test_the_hour_of_the_day_cancels_out():
    def rush(runs):
        return [replace(run, seconds=run.seconds * (1 + 0.4 * sin(pi * number / 60))) for number, run in enumerate(runs)]
    assert judged({"home": rush, "home-canary": rush}, phase="all").alarm
    assert not judged({"home": rush, "home-canary": rush}).alarm


def test_a_canary_without_a_past_is_judged_by_its_control_cohorts():
    good, bad = judged({}, canary_past=20), judged({"home-canary": BADLY["half as slow again"]}, canary_past=20)
    assert not good.alarm
    assert bad.alarm
    row = next(row for row in bad.ruling(final=False).signals if (row.probe, row.signal) == ("home-canary", "duration"))
    assert "judged by the past of home" in row.note


def test_in_its_phase_the_control_cohort_is_a_control_and_no_pass_waits_for_it():
    rows = judged({}).ruling(final=True).signals
    assert {row.probe for row in rows if row.required} == {"home-canary"}
    assert {row.probe for row in rows if row.control} == {"home"}
