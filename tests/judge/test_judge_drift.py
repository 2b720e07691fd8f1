"""A shop that became another one some while ago: seen, said, and when it is much, only what came since is its past."""

import math
import re

import pytest
from judge_runs import alarm_after, frozen, series, slower

from monitor.judge.drift import CUT, stable_from


def shifted(by, *, ago=120, count=400, seed=3):
    """A past whose newest `ago` runs take `by` times as long."""
    runs = series(count, seed)
    return [*runs[:-ago], *slower(runs[-ago:], by)]


def duration(baseline):
    return next(row for row in baseline.signals if row.signal.name == "duration")


@pytest.mark.parametrize("by", [0.3, 1 / CUT / 1.1, CUT * 1.1, 5.0])
def test_a_large_shift_leaves_only_what_came_since(by):
    row = duration(frozen(shifted(by)))
    assert row.fit.count == pytest.approx(120, abs=6)
    told = re.fullmatch(r"durations shifted to (\S+) times what they were, about 2023-11-15 00:3\d UTC: only the 1\d\d since are the past", row.note)
    assert float(told[1]) == pytest.approx(by, rel=0.1)


@pytest.mark.parametrize("by", [0.6, 1.4])
def test_a_small_shift_is_said_and_leaves_the_past_whole(by):
    row = duration(frozen(shifted(by)))
    assert row.fit.count == 400
    assert row.note.startswith("durations shifted to")
    assert row.note.endswith("within the past")


@pytest.mark.parametrize("by", [1.0, 1.1])
def test_what_may_be_chance_is_not_said(by):
    row = duration(frozen(shifted(by)))
    assert (row.fit.count, row.note) == (400, "")


def test_a_shift_a_moment_ago_is_none_yet():
    assert stable_from([run.seconds for run in shifted(4.0, ago=20)]) == 0


def test_harm_to_a_shop_that_had_become_fast_is_found_although_it_is_no_slower_than_last_month():
    past, after = shifted(0.2), slower(series(60, 9), 0.2)
    assert alarm_after(past, slower(after, 2.0)) <= 8
    assert alarm_after(past, after) is None


def test_two_shifts_one_after_the_other():
    runs = shifted(3.0, ago=300)
    twice = [*runs[:-100], *slower(runs[-100:], 0.2)]
    assert stable_from([run.seconds for run in twice]) == pytest.approx(300, abs=6)


@pytest.mark.parametrize("readings", [[], [1.0], [0.0] * 200, [5.0] * 400, [0.0] * 200 + [1e300] * 200])
def test_pasts_without_a_shape_are_left_whole(readings):
    assert math.isfinite(stable_from(readings))
