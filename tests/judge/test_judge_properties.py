"""What holds for any runs: replay is live, what is stored comes back, and only the order of durations counts."""

import json
import math
import random
import subprocess
import sys
import time
from dataclasses import replace
from typing import get_args, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_runs import SPACING, before_and_after, failing, frozen, series, slower, subject

from monitor.judge.baseline import Baseline
from monitor.judge.distributions import chi_square_80, log_negative_binomial_tail, quantile
from monitor.judge.evidence import TESTS
from monitor.judge.latency import LatencyFit
from monitor.judge.recovery import back_to_normal
from monitor.judge.sequential import Bursts, onset_beliefs
from monitor.judge.signals import Margin, margin_for
from monitor.judge.success import SuccessFit
from monitor.judge.verdict import Case, Judging
from probes.sample import Signal

KEY = ("home", "", "")
shops = st.builds(
    lambda seed, sigma, fails, factor: (
        series(140, seed, sigma=sigma, fails=fails),
        slower(series(40, seed + 1, at=140 * SPACING, sigma=sigma, fails=fails), factor),
    ),
    st.integers(0, 10_000), st.sampled_from([0.05, 0.3, 0.8]), st.sampled_from([0.0, 0.05, 0.4]),
    st.sampled_from([0.5, 1.0, 1.2, 2.0]),
)


def scores(baseline, after):
    case, out = Case([baseline], Judging()), []
    for run in after:
        case.add(KEY, run, warm=False)
        out.append(case.score())
    return out, case


@settings(max_examples=20, deadline=None)
@given(shops)
def test_a_stored_baseline_gives_the_same_scores_and_the_same_ruling(shop):
    before, after = shop
    baseline = frozen(before, horizon=60)
    stored = Baseline.from_dict(json.loads(json.dumps(baseline.to_dict())))
    assert stored == baseline
    (live, case), (replayed, again) = scores(baseline, after), scores(stored, after)
    assert live == replayed
    assert case.ruling(final=True) == again.ruling(final=True)


@settings(max_examples=20, deadline=None)
@given(shops, st.integers(1, 7))
def test_looking_more_often_changes_nothing(shop, every):
    before, after = shop
    baseline = frozen(before)
    quiet, looked = Case([baseline], Judging()), Case([baseline], Judging())
    for number, run in enumerate(after):
        quiet.add(KEY, run, warm=False)
        looked.add(KEY, run, warm=False)
        if number % every == 0:
            looked.ruling(final=True)
            looked.score()
    assert quiet.alarm == looked.alarm
    assert quiet.ruling(final=True) == looked.ruling(final=True)


@settings(max_examples=20, deadline=None)
@given(shops, st.sampled_from([2.0 ** -10, 0.5, 1024.0]))
def test_the_unit_of_time_does_not_matter(shop, unit):
    before, after = shop
    scaled = [slower(runs, unit) for runs in shop]
    assert scores(frozen(before), after)[0] == pytest.approx(scores(frozen(scaled[0]), scaled[1])[0])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([math.sqrt, math.log1p, lambda x: x ** 3]))
def test_the_rank_part_sees_only_the_order_of_durations(seed, bent):
    rng = random.Random(seed)
    past, now = [rng.lognormvariate(0, 1) for _ in range(120)], [rng.lognormvariate(0.5, 1) for _ in range(50)]
    straight = replace(LatencyFit.of(past), tolerance=1.0).start(60)
    curved = replace(LatencyFit.of([bent(value) for value in past]), tolerance=1.0).start(60)
    for value in now:
        straight.add(value)
        curved.add(bent(value))
        assert straight.bet() == pytest.approx(curved.bet())


@given(st.lists(st.booleans(), min_size=12, max_size=200), st.lists(st.booleans(), max_size=60))
def test_bets_on_outcomes_are_fair_odds(past, now):
    """Whatever was seen, the next outcome's factors average to 1 under the fitted chain: a bet gains nothing on average."""
    fit = SuccessFit.of([float(ok) for ok in past])
    for failed_before, chance in ((0, fit.onset), (1, fit.persistence)):
        ok, failed = fit.factors()[failed_before]
        assert [chance * f + (1 - chance) * o for o, f in zip(ok, failed, strict=True)] == pytest.approx([1.0] * 4)
    evidence = fit.start(60)
    for outcome in now:
        evidence.add(float(outcome))
        assert evidence.bet() > 0


@pytest.mark.parametrize("count", [40, 90, 400])
@pytest.mark.parametrize("temper", [1.0, 0.35])
def test_bets_on_ranks_have_a_mean_of_at_most_one(count, temper):
    fit = LatencyFit(tuple(float(number) for number in range(count)), temper, 1, 3, (0, 0), tolerance=1.0)
    worth = 0.0
    for place in range(count + 1):
        evidence = fit.start(60)
        evidence.add(place - 0.5)
        worth += evidence.bet() / (count + 1)
    assert worth <= 1.0


@given(st.integers(60, 4000))
def test_beliefs_in_onsets_never_exceed_one(horizon):
    beliefs = onset_beliefs(horizon)
    assert len(beliefs) == horizon
    assert sum(beliefs) <= 1 + 1e-9
    assert beliefs[0] == 0.6


def test_evidence_of_any_size_stays_a_number():
    fit = LatencyFit.of([1.0 + number / 1000 for number in range(400)])
    evidence = fit.start(60)
    for _ in range(2000):
        evidence.add(1e6)
    assert math.isfinite(math.log(evidence.bet()))
    for _ in range(2000):
        evidence.add(1e-6)
    assert evidence.bet() > 0


def test_numbers_of_probability_theory():
    # from scipy.stats.chi2.ppf(0.8, freedom) and scipy.stats.nbinom.logsf(least - 1, shape, exposure / (exposure + ahead))
    for freedom, expected in ((3, 4.641628), (10, 13.441958), (30, 36.250187), (99, 110.606847)):
        assert chi_square_80(freedom) == pytest.approx(expected, rel=0.006)
    for arguments, expected in (((2, 0.5, 400, 15), -7.609061701), ((5, 3.5, 90, 60), -2.020798066), ((12, 0.5, 400, 240), -13.382145516)):
        assert log_negative_binomial_tail(*arguments) == pytest.approx(expected)
    assert quantile([1.0, 2.0, 4.0], 0.75) == 3.0


def test_a_burst_counts_once_and_the_finite_baseline_is_in_its_price():
    bursts = Bursts(0, 400, 0.015, 60)
    for event in [True, True, True, False, True]:
        bursts.add(event)
    assert bursts.bursts == 2
    short = Bursts(0, 90, 0.015, 60)
    for event in [True, False, True]:
        short.add(event)
    assert short.log_tail > bursts.log_tail


def test_margins_of_the_probe_beat_those_of_the_update_and_a_checkout_has_its_own():
    assert margin_for("http").success == 0.05
    assert margin_for("checkout", Margin(p50=0.5)) == Margin(success=0.2, p50=0.5)
    assert margin_for("checkout", Margin(success=0.1), Margin(p95=0.4)) == Margin(success=0.1, p95=0.4)


@pytest.mark.parametrize("factor", [1.0, 0.8])
def test_a_shop_that_is_as_before_is_called_normal_after_ten_to_twenty_runs(factor):
    before, after = before_and_after(400, 10, sigma=0.03)
    normal, why = back_to_normal(frozen(before), slower(after, factor))
    assert normal, why
    assert not back_to_normal(frozen(before), after[:9])[0]


def test_even_a_shop_of_varying_speed_is_mostly_called_normal_after_twenty_runs():
    shops = [before_and_after(400, 20, seed, sigma=0.3) for seed in range(30)]
    assert sum(back_to_normal(frozen(before), after)[0] for before, after in shops) >= 21


@pytest.mark.parametrize("harm", [lambda r: slower(r, 1.5), lambda r: failing(r, 0.4), lambda r: r[:-1] + failing(r[-1:], 1)])
def test_a_shop_that_is_still_worse_is_not_called_normal(harm):
    called = 0
    for seed in range(20):
        before, after = before_and_after(400, 20, seed)
        called += back_to_normal(frozen(before), harm(after))[0]
    assert called == 0


def test_the_table_of_tests_knows_what_a_signal_may_declare():
    assert set(TESTS) == set(get_args(get_type_hints(Signal)["test"]))


def test_a_run_is_judged_in_microseconds():
    before, after = before_and_after(400, 400)
    case = Case([frozen(before, subject(f"p{number}")) for number in range(10)], Judging())
    began = time.process_time()
    for run in after:
        for number in range(10):
            case.add((f"p{number}", "", ""), run, warm=False)
    assert (time.process_time() - began) / 4000 < 100e-6     # 10 to 12 us on an idle core


def test_the_judge_needs_no_loop_no_network_and_no_numpy():
    code = "import monitor.judge.verdict, monitor.judge.recovery, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    banned = {"asyncio", "aiohttp", "sqlite3", "playwright", "structlog", "prometheus_client", "numpy", "scipy"}
    assert not banned & set(loaded)
