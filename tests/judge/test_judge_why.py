"""Why a signal is not flagged although something was seen: each reason where it holds, and none where nothing was."""

from dataclasses import replace

import pytest
from judge_runs import SPACING, before_and_after, frozen, slower, subject

from monitor.judge.explain import WHYS
from monitor.judge.signals import Run
from monitor.judge.verdict import Case, Judging
from probes.sample import Signal

WATCH = 60 * SPACING


def row_of(case, name="duration"):
    return next(row for row in case.ruling(final=False).signals if row.signal == name)


def fed(before, after, target=None, **how):
    target = target or subject()
    case = Case([frozen(before, target, **how)], Judging(), watch=WATCH)
    for run in after:
        case.add(target.key, run, warm=False)
    return case


def why(before, after, name="duration", **how):
    case = fed(before, after, **how)
    return row_of(case, name).why


def test_nothing_is_said_of_a_shop_that_is_as_before():
    before, after = before_and_after(400, 60, 2)
    assert (why(before, after), why(before, after, "success")) == ("", "")


def test_what_was_flagged_needs_no_excuse():
    before, after = before_and_after(400, 60, 2)
    assert why(before, slower(after, 2)) == ""


def test_a_harm_that_went_away_before_it_was_told_is_transient():
    """In a shop of many probes one that is slow for a few runs is not enough to alarm."""
    before, after = before_and_after(400, 60, 2)
    many = [subject(f"page{number}") for number in range(60)]
    case = Case([frozen(before, target) for target in many], Judging(), watch=WATCH)
    for run in [*slower(after[:6], 1.35), *after[6:]]:
        case.add(many[0].key, run, warm=False)
    row = next(row for row in case.ruling(final=False).signals if (row.probe, row.signal) == ("page0", "duration"))
    assert (row.guilty, row.why) == (False, "transient")
    assert row.peak >= 1


def test_a_difference_that_is_certain_and_small_is_too_small():
    before, after = before_and_after(400, 60, 2, sigma=0.02)
    row = row_of(fed(before, slower(after, 1.08)))
    assert (row.guilty, row.why) == (False, "too_small")


def test_few_runs_say_too_little():
    before, after = before_and_after(400, 2, 2)
    assert why(before, slower(after, 1.3)) == "too_little_data"
    assert why(before[:20], after) == "too_little_data"


def test_a_slowness_that_chance_explains_is_not_significant():
    before, after = before_and_after(400, 12, 2, sigma=0.5)
    assert why(before, slower(after, 1.35)) == "not_significant"


def test_what_the_past_did_without_an_update_was_seen_before():
    """What the placebo windows of the past reached is what an alarm has to surpass."""
    before, after = before_and_after(400, 60, 2)
    harm, baseline = slower(after, 1.16), frozen(before, subject())
    assert row_of(fed(before, harm)).guilty
    success, duration = baseline.signals
    held = replace(baseline, signals=(success, replace(duration, fit=duration.fit.stretched(1.5))))
    case = Case([held], Judging(), watch=WATCH)
    for run in harm[:30]:
        case.add(subject().key, run, warm=False)
    assert (row_of(case).guilty, row_of(case).why) == (False, "seen_before")


def test_what_happens_at_every_update_says_so():
    before, after = before_and_after(400, 60, 2)
    harm = slower(after, 1.16)
    assert row_of(fed(before, harm)).guilty
    row = row_of(fed(before, harm[:30], peaks={"duration": [1.9, 1.8, 0.3]}))
    assert (row.guilty, row.why) == (False, "every_update")
    assert frozen(before, subject(), peaks={"duration": [1.9, 1.4]}).signals[1].fit.stretch == pytest.approx(1.4)
    assert frozen(before, subject(), peaks={"duration": [1.9]}).signals[1].fit.stretch == 1.0


def test_a_step_that_stopped_reporting_is_not_clean_and_a_new_one_is_named():
    def runs(count, names, at=0.0):
        return [Run(1e9 + (at + place) * SPACING, True, 1.0 + place % 7 / 50, SPACING, passed=dict.fromkeys(names, True)) for place in range(count)]
    target = subject(signals=(Signal("success", "bernoulli"), Signal("*", "bernoulli", value="step/*")))
    case = fed(runs(400, ["step/basket", "step/pay"]), runs(20, ["step/basket", "step/3ds"], 400), target)
    rows = {row.signal: row for row in case.ruling(final=True).signals}
    assert (rows["pay"].why, rows["pay"].ruled_clean) == ("stopped", False)
    assert "stopped reporting" in rows["pay"].note
    assert "new since the update: step/3ds" in rows["success"].note
    assert rows["basket"].why == ""


def test_every_reason_has_words():
    assert all(words and words == words.strip() for words in WHYS.values())
