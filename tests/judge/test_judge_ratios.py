"""Events per try: a share that wanders must not alarm by itself, one that gets worse must, whatever the traffic does."""

import math
import random
from statistics import median

import pytest
from judge_counts import NOT_A_NUMBER, alarms, first_over, guilty_line, judged, stands

from monitor.judge.effect import ratio_change
from monitor.judge.ratios import RatioFit
from probes.sample import Signal

FAILED = Signal("errors per request", "ratio", "errors", per="requests", family="log")
CONVERSION = Signal("orders per session", "ratio", "orders", per="sessions", harm="down", family="business")


def shares(count, share, seed, *, tries=(50, 200), rho=0.02):
    """(events, tries) of runs whose share is drawn anew for each of them: beta with correlation `rho`."""
    rng, weight, out = random.Random(seed), (1 - rho) / rho, []
    for _ in range(count):
        bias, n = rng.betavariate(share * weight, (1 - share) * weight), rng.randint(*tries)
        out.append((float(sum(rng.random() < bias for _ in range(n))), float(n)))
    return out


def alarm(seed, *, before=0.05, after=0.05, count=400, **how):
    return first_over(RatioFit.of(shares(count, before, seed, **how)).start(60), shares(60, after, seed + 100_000, **how))


@pytest.mark.parametrize("count", [90, 400])
@pytest.mark.parametrize("rho", [0.001, 0.05])
def test_a_share_that_wanders_as_before_alarms_in_at_most_two_of_a_hundred(count, rho):
    assert alarms(150, lambda seed: alarm(seed, count=count, rho=rho, tries=(20, 60))) <= 5


def test_a_share_that_doubled_is_found():
    found = [alarm(seed, after=0.10) for seed in range(40)]
    assert sum(one is not None for one in found) >= 38
    assert median(one or 99 for one in found) <= 20


def test_twice_the_traffic_is_no_harm():
    def busier(seed):
        fit = RatioFit.of(shares(400, 0.05, seed))
        return first_over(fit.start(60), shares(60, 0.05, seed + 1000, tries=(400, 800)))
    assert alarms(40, busier) <= 1


def test_fewer_errors_are_no_harm():
    assert alarms(30, lambda seed: alarm(seed, after=0.01)) == 0


def test_the_mean_of_a_bet_is_at_most_one():
    fit = RatioFit.of(shares(400, 0.05, 1))
    weight, tries = (1 - fit.rho) / fit.rho, 80
    a, b, worth, total = fit.base * weight, (1 - fit.base) * weight, [0.0] * 3, 0.0
    for events in range(tries + 1):
        chance = math.comb(tries, events) * math.exp(
            math.lgamma(events + a) + math.lgamma(tries - events + b) - math.lgamma(tries + a + b)
            + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b))
        total += chance
        worth = [w + chance * factor for w, factor in zip(worth, fit.factors(float(events), float(tries)), strict=True)]
    assert total == pytest.approx(1.0)
    assert all(w <= 1 + 1e-9 for w in worth)


WILD = [(math.nan, 5.0), (1.0, math.nan), (-1.0, 5.0), (5.0, -1.0), (0.0, 0.0), (7.0, 3.0), (1e300, 1e300), (0.0, 1e300), (0.5, 0.9)]
PASTS = [[], [(0.0, 10.0)] * 400, [(10.0, 10.0)] * 400, [(3.0, 10.0)] * 400, [(1e300, 1e300)] * 90, WILD * 60, [(0.0, 1.0)] * 100,
         [(value, value) for value in NOT_A_NUMBER] * 50]


@pytest.mark.parametrize("past", PASTS)
def test_hostile_shares(past):
    stands(RatioFit.of(past), [*WILD, *[(10.0, 10.0)] * 400, *[(0.0, 1e6)] * 400])


def test_runs_without_tries_say_nothing():
    evidence = RatioFit.of(shares(100, 0.05, 1)).start(60)
    evidence.add((0.0, 0.0))
    assert evidence.seen == 0


@pytest.mark.parametrize("fewer", [False, True])
def test_the_interval_of_the_change_holds_the_truth(fewer):
    held = 0
    for seed in range(60):
        fit, now = RatioFit.of(shares(400, 0.05, seed)), shares(40, 0.10, seed + 500)
        lower, _, upper = ratio_change(fit, sum(k for k, _ in now), sum(n for _, n in now), len(now), fewer=fewer)
        held += lower <= (0.90 / 0.95 if fewer else 2.0) <= upper
    assert held >= 57


def counted(pairs, event, tries):
    return [{event: int(k), tries: int(n)} for k, n in pairs]


def test_conversion_that_halved_is_found_and_told_as_people_know_it():
    before, now = shares(400, 0.05, 1, tries=(100, 300), rho=0.001), shares(60, 0.02, 2, tries=(100, 300), rho=0.001)
    found, case = judged(CONVERSION, counted(before, "orders", "sessions"), counted(now, "orders", "sessions"))
    assert found is not None
    row = guilty_line(case)
    assert (row.before, row.after) == (pytest.approx(0.05, abs=0.005), pytest.approx(0.02, abs=0.015))
    assert row.ratio < 0.8
    assert case.ruling(final=False).sentence.startswith("Fewer orders per session than before: ")
    better = judged(CONVERSION, counted(before, "orders", "sessions"), counted(shares(60, 0.10, 3), "orders", "sessions"))
    assert better[0] is None


def test_errors_per_request_are_found_and_told():
    before, now = shares(400, 0.004, 1), shares(60, 0.05, 2)
    found, case = judged(FAILED, counted(before, "errors", "requests"), counted(now, "errors", "requests"))
    assert found is not None
    assert case.ruling(final=False).sentence.startswith("More errors per request than before: ")
    assert " % at *app-errors*, before 0." in case.ruling(final=False).sentence
