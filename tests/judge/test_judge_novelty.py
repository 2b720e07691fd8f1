"""New error signatures: shown always, an alarm when they stay or come faster than they used to."""

import math
import random
from statistics import median

import pytest
from judge_counts import alarms, clustered, first_over, guilty_line, judged, stands

from monitor.judge.novelty import MOST_KNOWN, MOST_NEW, NoveltyFit
from probes.sample import Signal

NEW = Signal("new errors", "novelty", "signature/", family="log")


def logged(count, seed, *, usual=12, novel=0.0, burst=1):
    """Signatures of runs: `usual` known ones, some rarer than others, and now and then one that was never there.

    A novel one is logged in `burst` runs in a row and then never again.
    """
    rng, lasting, out = random.Random(seed), {}, []
    for place in range(count):
        run = {f"warn: usual {n}": n for n in range(1, usual) if rng.random() < 1 / n}
        if rng.random() < novel:
            lasting[f"error: novel {seed} {place}"] = burst
        run |= dict.fromkeys(lasting, 1)
        lasting = {name: left - 1 for name, left in lasting.items() if left > 1}
        out.append(run)
    return out


def alarm(seed, *, count=400, **how):
    runs = logged(count + 60, seed, **how)
    return first_over(NoveltyFit.of(runs[:count]).start(60), runs[count:])


@pytest.mark.parametrize("novel", [0.0, 0.02, 0.35])
@pytest.mark.parametrize("burst", [1, 4])
@pytest.mark.parametrize("count", [120, 400])
def test_a_log_with_as_much_news_as_ever_alarms_in_at_most_two_of_a_hundred(novel, burst, count):
    assert alarms(150, lambda seed: alarm(seed, novel=novel, burst=burst, count=count)) <= 5


@pytest.mark.parametrize("novel", [0.0, 0.02, 0.35])
def test_a_new_error_that_stays_is_found_also_where_news_is_usual(novel):
    found = []
    for seed in range(30):
        runs, rng = logged(460, seed, novel=novel), random.Random(seed)
        after = [run | ({"error: broken": 2} if rng.random() < 0.7 else {}) for run in runs[400:]]
        found.append(first_over(NoveltyFit.of(runs[:400]).start(60), after))
    assert sum(one is not None for one in found) >= 28
    assert median(one or 99 for one in found) <= 25


def test_a_new_error_that_came_once_is_shown_and_does_not_alarm():
    runs = logged(460, 1)
    runs[410]["critical: once"] = 50
    evidence = NoveltyFit.of(runs[:400]).start(60)
    news = {}
    for run in runs[400:]:
        evidence.add(run)
        news |= evidence.news
        assert evidence.gated_bet() < 10
    assert news == {"critical: once": 50}


def test_what_is_heavy_is_found_sooner():
    took = {}
    for name in ("error: broken", "warn: broken"):
        runs = logged(460, 3)
        took[name] = first_over(NoveltyFit.of(runs[:400]).start(60), [run | {name: 1} for run in runs[400:]])
    assert took["error: broken"] < took["warn: broken"]


def test_a_flood_of_signatures_is_bounded():
    flood = [{f"error: {place}-{n}": 1 for n in range(50)} for place in range(200)]
    fit = NoveltyFit.of(flood)
    assert len(fit.known) == MOST_KNOWN
    evidence = fit.start(60)
    for run in flood:
        evidence.add(run)
    assert len(evidence._new) <= MOST_NEW
    assert math.isfinite(evidence.bet())


def test_the_mean_of_a_bet_is_at_most_one():
    """Simulated under the fitted chains: births and returns as the fit has them. The mean is of a heavy tail, so many short paths."""
    fit, rng, worth, trials = NoveltyFit.of(logged(400, 2, novel=0.1)), random.Random(5), 0.0, 4000
    for _ in range(trials):
        evidence, there, born = fit.start(60), {}, False
        for place in range(3):
            there = {name: rng.random() < (fit.returns.persistence if was else fit.returns.onset) for name, was in there.items()}
            born = rng.random() < (fit.births.persistence if born else fit.births.onset)
            run = {name: 1 for name, here in there.items() if here} | ({f"error: {place}": 1} if born else {})
            there |= {f"error: {place}": False} if born else {}
            evidence.add(run)
        worth += evidence.bet() / trials
    assert 0.5 < worth <= 1.15                 # 3 standard errors


WILD = [{}, {"error: a": math.nan, "b": math.inf, "c": -1.0}, {"": 1e300}, {"\x00\ud800": 1.0}, {"x" * 10_000: 2.0}]


@pytest.mark.parametrize("past", [[], [{}] * 400, WILD * 80, [{"same": 1}] * 400, [{f"{n}": 1} for n in range(400)]])
def test_hostile_signatures(past):
    stands(NoveltyFit.of(past), [*WILD * 20, *[{f"error: {n}": 1} for n in range(400)], *[{"error: stays": 1e300}] * 300])


def test_new_errors_are_told_with_their_number_and_examples():
    def counts(runs):
        return [{f"signature/{name}": int(n) for name, n in run.items()} | {"errors": 1} for run in runs]
    runs = logged(440, 7)
    after = [run | {"error: TimeoutError at\npay.py": 3} for run in runs[400:]]
    found, case = judged(NEW, counts(runs[:400]), counts(after))
    assert found is not None
    assert found <= 15
    row, sentence = guilty_line(case), case.ruling(final=False).sentence
    assert (row.test, row.after, row.ratio) == ("novelty", 1.0, None)
    assert sentence == (f"Errors that nobody has seen before: *app-errors* logged 1 never seen before, {3 * found} times: "
                        "“TimeoutError at pay.py”.")
    assert row.news == (("error: TimeoutError at\npay.py", 3.0 * found),)
    assert judged(NEW, counts(runs[:400]), counts(runs[400:]))[0] is None


def test_what_is_new_is_named_also_without_an_alarm_the_most_telling_first_and_bounded():
    past = [{"signature/error:usual": 1, "signature/warning:usual": 2}] * 400
    flood = {"signature/error:" + "x" * 5000: 1, "signature/changed:warning:odd [cart]": 1} | {f"signature/warning:{n}": 1 for n in range(300)}
    rows = judged(NEW, past, [flood, *past[:20]])[1].ruling(final=False).signals
    (row,) = (row for row in rows if row.test == "novelty")
    assert row.after == 200
    assert row.news == (("changed:warning:odd [cart]", 1.0), (("error:" + "x" * 5000)[:200], 1.0), ("warning:0", 1.0))
    assert next(row for row in rows if row.test != "novelty").news == ()


def test_counts_of_the_same_log_do_not_disturb_it():
    noisy = clustered(60, 50.0, 0.5, 1)
    runs = logged(460, 9)
    after = [{name: count * (1 + noisy[place]) for name, count in run.items()} for place, run in enumerate(runs[400:])]
    assert first_over(NoveltyFit.of(runs[:400]).start(60), after) is None


def test_what_is_only_noted_is_no_harm_however_often_it_comes():
    """A release that brings another inline script, in every run from then on."""
    fit = NoveltyFit.of([{"error:known": 1.0}] * 200)
    assert fit is not None
    noted, harmful = fit.start(60), fit.start(60)
    for _ in range(60):
        noted.add({"error:known": 1.0, "noted:inline script 3fa9c2": 1.0, "changed:noted:third party ads.example [ads]": 1.0})
        harmful.add({"error:known": 1.0, "error:page error TypeError in /a.js": 1.0})
    assert noted.reach() < 0.1
    assert not noted.news
    assert harmful.reach() >= 1
