"""N of M, confirmed over time; recovery; and what we cannot measure."""

from dataclasses import asdict, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from monitor.health import Health, Rule, State, judge
from probes.sample import Outcome, Sample

OK, FAILED, BROKEN = Outcome.OK, Outcome.FAILED, Outcome.BROKEN
LETTERS = {"o": OK, "F": FAILED, "x": BROKEN}


def rule(failures=3, of=5, confirm="60s"):
    return Rule(failures=failures, of=of, confirm=confirm)


def sample(outcome, at, reason=""):
    return Sample(probe="pay", device="d", cohort="c", outcome=outcome,
                  reason=reason or ("" if outcome is OK else "status"), started=at, ended=at + 1,
                  evidence=f"seen at {at:g}")


def story(letters, *, by=None, every=30.0, health=None):
    """Runs as letters, one every `every` s from 0: the last health, and each flip with the number of its run."""
    health, flips = health or Health(), []
    for number, letter in enumerate(letters):
        health, found = judge(health, by or rule(), sample(LETTERS[letter], number * every))
        flips += [(number, flip) for flip in found]
    return health, flips


def states(flips):
    return [(number, flip.new) for number, flip in flips]


@pytest.mark.parametrize(("letters", "expected"), [
    ("ooooo", []),
    ("oooooFF", []),                                       # two of five
    ("oooooFFF", [(7, State.DOWN)]),
    ("oooooFoFoF", [(9, State.DOWN)]),                     # three of five, not in a row
    ("oooooFooFooF", []),                                  # never three of five
    ("FFF", [(2, State.DOWN)]),                            # from the first run on
    ("oFFFooo", [(3, State.DOWN), (6, State.UP)]),         # 5 - 3 + 1 good runs in a row
    ("oFFFooFooo", [(3, State.DOWN), (9, State.UP)]),
    ("oFFFoo", [(3, State.DOWN)]),
    ("oFFFFFFFFF", [(3, State.DOWN)]),                     # told once
    ("oFFFoooFFF", [(3, State.DOWN), (6, State.UP), (9, State.DOWN)]),
])
def test_an_outage_opens_by_n_of_m_and_ends_when_that_can_no_longer_be(letters, expected):
    assert states(story(letters, by=rule(confirm="0s"))[1]) == expected


def test_failing_must_also_have_lasted():
    """Three failures within 20 s of rechecks are no outage yet; the first failed run after a minute makes it one."""
    _, flips = story("oooooFFFFFFFF", every=10.0)
    assert states(flips) == [(11, State.DOWN)]
    flip = flips[0][1]
    assert (flip.since, flip.at, flip.failed, flip.of) == (50.0, 111.0, 5, 5)


def test_a_stretch_that_ended_does_not_count_for_the_next_one():
    """Failing at 0, good again, failing at 240: the next outage is confirmed from 240 on."""
    health, flips = story("FoooooooFFF", every=30.0)
    assert states(flips) == [(10, State.DOWN)]
    assert health.failing_since == 240.0
    assert states(story("FoooooooFF", every=30.0)[1]) == []


def test_a_flip_says_what_happened():
    health, flips = story("oFFF", by=rule(confirm="0s"))
    flip = flips[0][1]
    assert asdict(flip) == {
        "probe": "pay", "device": "d", "cohort": "c", "old": "up", "new": "down", "reason": "status", "at": 91.0, "since": 30.0, "failed": 3, "of": 4,
        "evidence": "seen at 90"}
    assert flip.target == ("pay", "d", "c")
    assert health.unsettled


def test_a_recovery_flip_has_no_reason_and_the_old_state():
    _, flips = story("oFFFooo", by=rule(confirm="0s"))
    flip = flips[1][1]
    assert (flip.old, flip.new, flip.reason, flip.at) == (State.DOWN, State.UP, "", 181.0)


def test_broken_runs_never_turn_the_shop_red_and_never_green():
    assert states(story("oooxxxxxxxxx", by=rule(confirm="0s"))[1]) == [(5, State.BROKEN)]
    health, flips = story("oFFFxxxxx", by=rule(confirm="0s"))
    assert states(flips) == [(3, State.DOWN), (6, State.BROKEN)]
    assert health.down
    assert health.window == (False, True, True, True)
    health, flips = story("oFFFxoxoxo", by=rule(confirm="0s"))
    assert (9, State.UP) in states(flips)


def test_broken_runs_between_failures_do_not_hide_them():
    assert states(story("oFxFxF", by=rule(confirm="0s"))[1]) == [(5, State.DOWN)]


def test_what_cannot_be_measured_is_told_and_its_end_too():
    health, flips = story("oxxxooo", by=rule(confirm="0s"))
    assert states(flips) == [(3, State.BROKEN), (6, State.MEASURED)]
    assert health == story("ooooo")[0] or health.steady
    assert not health.broken
    assert health.unmeasured == ()


def test_being_broken_must_be_confirmed_over_time_too():
    assert states(story("xxxx", every=10.0)[1]) == []
    assert states(story("xxxxxxxx", every=10.0)[1]) == [(6, State.BROKEN)]


def test_a_failed_run_is_a_measured_one():
    _, flips = story("xxxFFF", by=rule(confirm="0s"))
    assert states(flips) == [(2, State.BROKEN), (5, State.MEASURED), (5, State.DOWN)]


def test_one_of_one_needs_no_second_run():
    by = Rule(failures=1, of=1, confirm="0s")
    assert states(story("oFoFF", by=by)[1]) == [(1, State.DOWN), (2, State.UP), (3, State.DOWN)]


def test_a_window_that_was_stored_under_another_rule_is_cut_to_the_new_one():
    health, _ = story("oooooooooo", by=rule(of=10))
    health, flips = story("FFF", by=rule(failures=3, of=3, confirm="0s"), health=health)
    assert len(health.window) == 3
    assert states(flips) == [(2, State.DOWN)]


@pytest.mark.parametrize(("failures", "of"), [(6, 5), (1, 0), (0, 5), (-1, 5), (1, 1001)])
def test_an_impossible_rule_is_refused(failures, of):
    with pytest.raises(ValidationError):
        rule(failures, of)


NERVOUS = Rule(failures=1, of=1, confirm="0s")


def test_what_comes_again_within_half_an_hour_must_stay_away_for_a_while():
    """Every 10 s a run. The first outage ends with the first good run, the second after 2 min, the third after 4, then 8, then 10."""
    health, flips, at, lasted = Health(), [], 0.0, []
    for _ in range(6):
        health, down = judge(health, NERVOUS, sample(FAILED, at))
        flips += down
        begun = at
        while health.down:
            at += 10
            health, up = judge(health, NERVOUS, sample(OK, at))
            flips += up
        lasted.append(at - begun)
        at += 10
    assert lasted == [10, 120, 240, 480, 600, 600]
    assert [flip.new for flip in flips] == [State.DOWN, State.UP] * 6


def test_a_new_failure_begins_the_quiet_time_anew_and_is_no_new_outage():
    health, flips = story("FoF" + "o" * 10 + "F" + "o" * 30, by=NERVOUS, every=10.0)
    assert states(flips) == [(0, State.DOWN), (1, State.UP), (2, State.DOWN), (25, State.UP)]
    assert len(health.downs) == 2


def test_outages_that_are_far_apart_end_at_once():
    health = Health()
    for number in range(4):
        health, _ = judge(health, NERVOUS, sample(FAILED, number * 1800.0))
        health, up = judge(health, NERVOUS, sample(OK, number * 1800.0 + 10))
        assert [flip.new for flip in up] == [State.UP]
    assert health.downs == (5401.0,)


def test_a_flapping_target_is_looked_at_again_soon_until_it_is_well():
    health, _ = story("FoFoo", by=NERVOUS, every=10.0)
    assert health.down
    assert health.unsettled
    assert not health.steady


def test_the_times_of_past_outages_are_bounded():
    health = Health()
    for number in range(100):
        health = replace(health, down=False)
        health, _ = judge(health, NERVOUS, sample(FAILED, number * 10.0))
    assert len(health.downs) == 16


class Naive:
    """The same promises without windows: looks at the whole history anew after every run."""

    def __init__(self, by):
        self.by, self.runs, self.down, self.broken, self.downs = by, [], False, False, []

    def judge(self, outcome, at):
        self.runs.append((outcome, at, at + 1))
        flips = []
        if self.broken_flip():
            flips.append(State.BROKEN if self.broken else State.MEASURED)
        if outcome is not BROKEN and self.shop_flip():
            flips.append(State.DOWN if self.down else State.UP)
        return flips

    def stretch(self, runs, bad):
        """The runs of the present stretch of bad ones: it ends with `of - failures + 1` others in a row."""
        out, fine = [], 0
        for run in runs:
            fine = 0 if bad(run) else fine + 1
            out = [*out, run] if out or bad(run) else []
            if fine >= self.by.of - self.by.failures + 1:
                out = []
        return out

    def opens(self, runs, bad, stretch):
        newest = runs[-self.by.of:]
        return bad(runs[-1]) and sum(map(bad, newest)) >= self.by.failures and runs[-1][2] - stretch[0][1] >= self.by.confirm

    def shop_flip(self):
        def bad(run):
            return run[0] is FAILED
        measured = [run for run in self.runs if run[0] is not BROKEN]
        stretch, was = self.stretch(measured, bad), self.down
        if was:
            failed_at = max(end for outcome, _, end in measured if outcome is FAILED)
            near = sum(self.downs[-1] - at < 1800 for at in self.downs)
            self.down = bool(stretch) or measured[-1][2] - failed_at < [0, 0, 120, 240, 480, 600][min(near, 5)]
        elif bool(stretch) and self.opens(measured, bad, stretch):
            self.down = True
            self.downs.append(measured[-1][2])
        return was != self.down

    def broken_flip(self):
        def bad(run):
            return run[0] is BROKEN
        stretch, was = self.stretch(self.runs, bad), self.broken
        self.broken = bool(stretch) if self.broken else bool(stretch) and self.opens(stretch, bad, stretch)
        return was != self.broken


rules = st.integers(1, 7).flatmap(lambda of: st.builds(rule, st.integers(1, of), st.just(of), st.sampled_from(["0s", "25s", "60s", "5m"])))


@settings(max_examples=250, deadline=None)
@given(rules, st.lists(st.tuples(st.sampled_from("ooooFFx"), st.integers(1, 60) | st.integers(100, 2000)), max_size=60))
def test_the_flips_are_those_of_a_naive_model(by, runs):
    naive, health, at = Naive(by), Health(), 1000.0
    for letter, gap in runs:
        at += gap
        health, flips = judge(health, by, sample(LETTERS[letter], at))
        assert [flip.new for flip in flips if flip.old is not flip.new] == naive.judge(LETTERS[letter], at)
        assert (health.down, health.broken) == (naive.down, naive.broken)
        assert len(health.window) <= by.of


@settings(max_examples=150, deadline=None)
@given(rules, st.text("ooooooFx", max_size=60))
def test_the_fast_path_for_a_steady_target_gives_what_the_slow_one_gives(by, letters):
    fast = slow = Health()
    for number, letter in enumerate(letters):
        one = sample(LETTERS[letter], number * 30.0)
        fast, quick = judge(fast, by, one)
        slow, thorough = judge(slow, by, one) if not slow.steady or one.outcome is not OK else _slowly(slow, by, one)
        assert (fast, quick) == (slow, thorough)


def _slowly(health, by, one):
    """The slow path on a steady target: one more outcome in its window, one more good run in a row."""
    from monitor import health as module
    health, flips = module._unmeasured(health, by, one, broken=False)
    return module._counted(health, by, one, failed=False), flips


@given(rules, st.text("oFx", max_size=40))
def test_a_steady_target_stays_the_same_object_after_a_good_run(by, letters):
    health, _ = story(letters + "o" * (2 * by.of + 25), by=by)
    assert health.steady
    assert judge(health, by, sample(OK, 1e6))[0] is health


def test_what_comes_and_goes_and_then_stays_down_says_so_once_more():
    by, health, at, said = rule(1, 1, "0s"), Health(), 0.0, []
    for letter, runs in [("F", 1), ("o", 1), ("F", 1), ("o", 5), ("F", 1), ("o", 7), ("F", 40)]:
        for _ in range(runs):
            at += 30.0
            health, flips = judge(health, by, sample(LETTERS[letter], at))
            said += [(flip.old.value, flip.new.value) for flip in flips]
    assert said == [("up", "down"), ("down", "up"), ("up", "down"), ("down", "up"), ("up", "down"), ("down", "down")]
