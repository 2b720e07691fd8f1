"""An all-clear is a promise: a shop that is still as bad as was found must not get one, however often it is looked at."""

from random import Random

import pytest

from monitor.judge.baseline import freeze
from monitor.judge.recovery import back_to_normal, harm_is_gone
from monitor.judge.signals import Margin, Run, Subject
from probes.sample import Signal

SIGNALS = (Signal("success", "bernoulli"), Signal("duration", "latency"))
PAY = Subject("pay", "", "", "http", critical=True, control=False, margin=Margin(), signals=SIGNALS)


def runs(random, count, *, failing=0.0, slower=1.0, tail=0.0):
    return [
        Run(at=30.0 * number, ok=random.random() >= failing, spacing=30.0,
            seconds=0.1 * slower * random.lognormvariate(0, 0.3) * (5 if random.random() < tail else 1))
        for number in range(count)
    ]


def line(signal, **found):
    nothing = {"failed_after": None, "n_after": 10, "ratio": None, "ratio_lower": None, "before": 0.1, "after": 0.1}
    return nothing | {"signal": signal} | found


def first_all_clear(baseline, after, harm):
    """After how many runs somebody who looks after each of them is told that it is over; None if never."""
    for count in range(10, len(after) + 1):
        newest = after[max(0, count - 400):count]
        if back_to_normal(baseline, newest)[0] and harm_is_gone(baseline, newest, harm):
            return count
    return None


HARMS = [
    pytest.param({"failing": 0.05}, line("success", failed_after=4, n_after=60), id="5 % fail"),
    pytest.param({"failing": 0.10}, line("success", failed_after=5, n_after=40), id="10 % fail"),
    pytest.param({"failing": 0.20}, line("success", failed_after=4, n_after=14), id="20 % fail"),
    pytest.param({"slower": 1.2}, line("duration", ratio=1.2, ratio_lower=1.08, n_after=40), id="x1.2"),
    pytest.param({"slower": 2.0}, line("duration", ratio=2.0, ratio_lower=1.5), id="x2"),
    pytest.param({"slower": 3.0}, line("duration", after=0.3, n_after=3), id="x3, known from three runs"),
    pytest.param({"tail": 0.10}, line("duration", ratio=1.03, ratio_lower=0.9, n_after=30), id="slow tail"),
]


@pytest.mark.parametrize(("still", "harm"), HARMS)
def test_a_shop_that_is_still_as_bad_is_not_called_normal_in_400_runs(still, harm):
    for seed in range(10):
        random = Random(seed)
        baseline = freeze(PAY, runs(random, 400), spacing=30.0, horizon=0)
        assert first_all_clear(baseline, runs(random, 400, **still), harm) is None


@pytest.mark.parametrize(("_still", "harm"), HARMS)
def test_a_shop_that_is_as_before_is_called_normal_within_the_same_runs_also_when_it_began_badly(_still, harm):
    for seed in range(10):
        random = Random(seed)
        baseline = freeze(PAY, runs(random, 400), spacing=30.0, horizon=0)
        after = runs(random, 10, failing=1.0) + runs(random, 390)      # the rollback took its time
        assert first_all_clear(baseline, after, harm) is not None


def test_the_worse_it_was_the_sooner_it_is_seen_to_be_over():
    random = Random(1)
    baseline, after = freeze(PAY, runs(random, 400), spacing=30.0, horizon=0), runs(random, 400)
    took = [first_all_clear(baseline, after, line("success", failed_after=failed, n_after=20)) for failed in (3, 8, 20)]
    assert took == sorted(took, reverse=True)
    assert took[-1] <= 20


def test_an_error_log_is_normal_again_when_its_newest_runs_are_like_its_past():
    signals = tuple(Signal(name, name, name, family="log") for name in ("count", "novelty", "silence"))
    log = Subject("log", "", "", "error_log", critical=False, control=False, margin=Margin(), signals=(SIGNALS[0], *signals))
    random = Random(3)
    def logged(runs, **more):
        return [Run(30.0 * n, True, 0.0, 30.0, counts={"count": random.randint(0, 4), "silence": 1, "novelty: old": 1} | more)
                for n in range(runs)]
    baseline = freeze(log, logged(400), spacing=30.0, horizon=0)
    bad = {"count": {"count": 50}, "novelty": {"novelty: new": 3}, "silence": {"silence": 0}}
    for name, more in bad.items():
        ill = logged(30, **more)
        assert not harm_is_gone(baseline, ill, line(name))
        well = logged(60)
        assert any(harm_is_gone(baseline, ill + well[:count], line(name)) for count in range(10, 60))
        assert back_to_normal(baseline, logged(20))[0]
