"""Whatever a past holds, it is frozen, stored and read back as it was, and judged by; what is no number and no time is left out."""

import json
import math
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_runs import DURATION, SPACING, START, SUCCESS, failing, first_alarm, frozen, series, slower, subject

from monitor.judge.baseline import Baseline
from monitor.judge.signals import Run
from monitor.judge.verdict import Case, Judging
from probes.sample import Signal

KEY = ("home", "", "")
EVERY = (
    SUCCESS, DURATION, Signal("dns", "latency", "dns"), Signal("success of *", "bernoulli", "step/*"), Signal("time of *", "latency", "step/*"),
    Signal("errors", "count", "errors", family="log"), Signal("orders", "count", "orders", harm="down", family="business"),
    Signal("share", "ratio", "errors", per="orders", family="log"), Signal("new", "novelty", "sig/", family="log"),
    Signal("silence", "silence", "lines", family="log"),
)
NUMBERS = st.one_of(st.floats(), st.sampled_from([0.0, -1.0, 0.2, 0.2, 0.2, 1e300, 5e-324, math.nan, math.inf]))
TIMES = st.one_of(st.floats(-1e11, 1e11), st.sampled_from([0.0, -1.0, START, START + 1.0, START + 9e9]))
NO_TIMES = st.sampled_from([math.nan, math.inf, -math.inf])
NAMES = st.sampled_from(["dns", "step/cart", "step/pay", "step/"])
COUNTS = st.dictionaries(st.sampled_from(["errors", "orders", "lines", "sig/a", "sig/error: b", "sig/"]), st.integers(-2, 10 ** 12), max_size=4)


@st.composite
def any_runs(draw, times=TIMES) -> list[Run]:
    """Regular runs, any number of them, into which anything was mixed, in any order and more than once."""
    regular = series(draw(st.sampled_from([0, 5, 60, 120, 250])), draw(st.integers(0, 99)), sigma=draw(st.sampled_from([0.0, 0.3])))
    how = draw(st.sampled_from(["as it is", "failing", "overloaded", "nothing measured"]))
    if how == "failing":
        regular = failing(regular, draw(st.sampled_from([0.1, 1.0])))
    regular = [replace(run, overloaded=how == "overloaded", seconds=math.nan if how == "nothing measured" else run.seconds) for run in regular]
    odd = st.builds(
        Run, at=times, ok=st.booleans(), seconds=NUMBERS, spacing=st.sampled_from([SPACING, SPACING, 5.0, 0.0, math.nan]), overloaded=st.booleans(),
        values=st.dictionaries(NAMES, NUMBERS, max_size=3), passed=st.dictionaries(NAMES, st.booleans(), max_size=3), counts=COUNTS)
    mixed = regular + draw(st.lists(odd, max_size=12)) + regular[:draw(st.integers(0, 5))]
    return random.Random(draw(st.integers(0, 99))).sample(mixed, len(mixed))


@settings(max_examples=30, deadline=None)
@given(any_runs(TIMES | NO_TIMES), any_runs())
def test_any_past_is_frozen_comes_back_from_the_store_and_judges_any_runs(past, after):
    baseline = frozen(past, subject(signals=EVERY), horizon=20, history=past)
    text = json.dumps(baseline.to_dict(), allow_nan=False)
    stored = Baseline.from_dict(json.loads(text))
    assert stored == baseline
    assert json.dumps(stored.to_dict(), allow_nan=False) == text
    assert baseline.runs <= 400
    assert 0 <= baseline.placebos <= 20
    case, again = Case([baseline], Judging()), Case([stored], Judging())
    for run in sorted(after, key=lambda run: run.at):
        case.add(KEY, run, warm=False)
        again.add(KEY, run, warm=False)
        assert not math.isnan(case.score())
    ruling = case.ruling(final=True, over=True).to_dict()
    assert ruling == again.ruling(final=True, over=True).to_dict()
    json.dumps(ruling, allow_nan=False)


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 99), st.integers(90, 450))
def test_the_order_in_which_runs_are_handed_in_does_not_matter(seed, count):
    runs = series(count)
    mixed = random.Random(seed).sample(runs, count)
    assert frozen(mixed) == frozen(runs)


@pytest.mark.parametrize("at", [math.nan, math.inf, -math.inf])
def test_a_run_without_a_time_is_no_past(at):
    runs = series(120)
    assert frozen([*runs, replace(runs[0], at=at)]) == frozen(runs)


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0])
def test_what_is_no_duration_still_says_whether_the_run_failed(seconds):
    runs = series(120)
    baseline = frozen([*runs[:100], *(replace(run, seconds=seconds) for run in runs[100:])])
    assert [row.fit.count for row in baseline.signals if row.fit] == [120, 100]


@pytest.mark.parametrize(("past", "judged", "said"), [
    ([], [], "baseline too short: 0 of 10 runs, enough in about 5 minutes"),
    (series(34), ["success"], "baseline too short: 34 of 90 runs, enough in about 28 minutes"),
    (failing(series(120), 1.0), ["success"], "baseline too short: only 0 of its 120 runs have a number"),
    ([replace(run, overloaded=True) for run in series(120)], ["success"], "baseline too short: only 0 of its 120 runs have a number"),
    ([replace(run, spacing=5.0) for run in series(120)], [], "baseline too short: 0 of 10 runs, enough in about 5 minutes"),
])
def test_what_a_past_lacks_is_said_and_what_it_has_is_judged(past, judged, said):
    baseline = frozen(past)
    assert [row.signal.name for row in baseline.signals if row.fit] == judged
    assert said in {row.note for row in baseline.signals}
    assert Case([baseline], Judging()).ruling(final=True, over=True).verdict == "inconclusive"


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_a_duration_that_never_varies_is_a_past(seconds):
    past = [replace(run, seconds=seconds) for run in series(400)]
    after = [replace(run, seconds=seconds) for run in series(200, at=400 * SPACING)]
    baseline = frozen(past)
    assert first_alarm(Case([baseline], Judging()), after) is None
    worse = slower(after, 2.0) if seconds else [replace(run, seconds=0.5) for run in after]
    assert first_alarm(Case([baseline], Judging()), worse) is not None
