"""What a signal reads of a run, what "/*" becomes, and what appears or vanishes with an update."""

import math
from dataclasses import replace

import pytest
from judge_runs import SPACING, START, before_and_after, first_alarm, frozen, subject

from monitor.judge.lines import each, news, silence
from monitor.judge.signals import MOST_NAMES, Run, appeared, expand, is_main, read, stopped
from monitor.judge.verdict import Case, Judging
from probes.sample import Signal

STEP, STEP_TIME = Signal("*", "bernoulli", "step/*"), Signal("* duration", "latency", "step/*")
STEPS = ("home", "basket", "pay")


def a_run(**what):
    return replace(Run(START, True, 0.2, SPACING), **what)


@pytest.mark.parametrize(("signal", "run", "expected"), [
    (Signal("success", "bernoulli"), a_run(ok=False), 0.0),
    (Signal("pay", "bernoulli", "step/pay"), a_run(ok=False, passed={"step/pay": True}), 1.0),
    (Signal("pay", "bernoulli", "step/pay"), a_run(ok=False), None),
    (Signal("duration", "latency"), a_run(), 0.2),
    (Signal("duration", "latency"), a_run(ok=False), None),
    (Signal("duration", "latency"), a_run(overloaded=True), None),
    (Signal("duration", "latency"), a_run(seconds=math.nan), None),
    (Signal("duration", "latency"), a_run(seconds=-1.0), None),
    (Signal("dns", "latency", "dns"), a_run(values={"dns": 0.01}), 0.01),
    (Signal("home", "latency", "step/home"), a_run(ok=False, passed={"step/home": True}, values={"step/home": 0.3}), 0.3),
    (Signal("pay", "latency", "step/pay"), a_run(ok=False, passed={"step/pay": False}, values={"step/pay": 9.0}), None),
    (Signal("errors", "count", "errors"), a_run(ok=False, overloaded=True, counts={"errors": 3}), 3.0),
    (Signal("errors", "count", "errors"), a_run(counts={"errors": -3}), None),
    (Signal("errors", "count", "errors"), a_run(), None),
    (Signal("e", "ratio", "errors", per="requests"), a_run(counts={"errors": 3, "requests": 50}), (3.0, 50.0)),
    (Signal("e", "ratio", "errors", per="requests"), a_run(counts={"errors": 60, "requests": 50}), (50.0, 50.0)),
    (Signal("e", "ratio", "errors", per="requests"), a_run(counts={"errors": 0, "requests": 0}), None),
    (Signal("c", "ratio", "orders", per="sessions", harm="down"), a_run(counts={"orders": 3, "sessions": 50}), (47.0, 50.0)),
    (Signal("new", "novelty", "signature/"), a_run(counts={"signature/error: x": 2, "signature/y": 0, "errors": 2}), {"error: x": 2}),
    (Signal("lines", "silence", "lines"), a_run(counts={"lines": 0}), 0.0),
])
def test_what_a_signal_reads(signal, run, expected):
    assert read(signal, run) == expected


def checkout(place, *, fails="", at=0.0, steps=STEPS):
    reached = steps[:steps.index(fails) + 1] if fails else steps
    return Run(START + at + place * SPACING, not fails, 1.0 + 0.01 * (place % 7), SPACING,
               passed={f"step/{name}": name != fails for name in reached},
               values={f"step/{name}": 0.3 + 0.01 * (place % 5) for name in reached})


def test_a_star_becomes_a_signal_for_every_name_of_the_past():
    main = Signal("success", "bernoulli")
    signals = expand((main, STEP, STEP_TIME), [checkout(0), checkout(1, fails="basket")])
    assert [s.name for s in signals] == ["success", "basket", "home", "pay", "basket duration", "home duration", "pay duration"]
    assert [s.value for s in signals[1:4]] == ["step/basket", "step/home", "step/pay"]
    assert {s.test for s in signals[4:]} == {"latency"}
    assert expand((main, STEP), []) == (main,)
    assert expand((Signal("level", "count", "level/*"),), [a_run(counts={"level/error": 1})])[0].name == "level/error"


def test_a_shop_that_makes_up_names_gets_only_so_many_signals_and_the_frequent_ones():
    runs = [a_run(passed={f"step/{n}": True for n in range(200)}), a_run(passed={"step/150": True})]
    names = [signal.value for signal in expand((STEP,), runs)]
    assert len(names) == MOST_NAMES
    assert "step/150" in names


def test_only_the_outcome_and_the_whole_duration_are_what_a_pass_needs():
    assert is_main(Signal("success", "bernoulli"))
    assert is_main(Signal("duration", "latency"))
    assert not any(is_main(s) for s in (Signal("pay", "bernoulli", "step/pay"), Signal("dns", "latency", "dns"),
                                        Signal("errors", "count", "errors"), Signal("lines", "silence", "lines")))


def test_a_step_that_appears_with_the_update_is_noticed():
    signals = expand((Signal("success", "bernoulli"), STEP, STEP_TIME), [checkout(0)])
    assert appeared(signals, checkout(1)) == set()
    assert appeared(signals, checkout(1, steps=("home", "3ds", "pay"))) == {"step/3ds"}
    assert appeared((Signal("success", "bernoulli"),), checkout(1)) == set()


@pytest.mark.parametrize(("seen", "expected"), [
    ((400, 400, 0, 10), True), ((400, 400, 0, 9), False), ((400, 400, 1, 50), False), ((100, 400, 0, 50), False), ((0, 0, 0, 50), False),
])
def test_a_name_that_vanishes_with_the_update_is_noticed(seen, expected):
    assert stopped(*seen) is expected


def test_the_step_that_fails_is_named():
    before = [checkout(n, fails="basket" if n == 77 else "") for n in range(120)]
    declared = (Signal("success", "bernoulli"), STEP, STEP_TIME)
    target = subject("checkout", kind="checkout", signals=expand(declared, before))
    case = Case([frozen(before, target)], Judging())
    after = [checkout(n, fails="pay", at=120 * SPACING) for n in range(8)]
    assert first_alarm(case, after, target.key) <= 4
    ruling = case.ruling(final=False)
    guilty = {row.signal for row in ruling.signals if row.guilty}
    assert "pay" in guilty
    assert not guilty & {"home", "basket", "home duration", "basket duration"}
    assert ", at pay" in ruling.sentence


def test_numbers_that_are_none_do_not_spoil_what_is_judged():
    before, after = before_and_after(400, 30)
    wild = [replace(run, seconds=(math.nan, math.inf, -1.0)[place % 3]) if place % 10 == 0 else run for place, run in enumerate(before)]
    case = Case([frozen(wild)], Judging())
    assert first_alarm(case, [replace(run, seconds=math.nan) if place % 3 else run for place, run in enumerate(after)]) is None
    assert case.ruling(final=False).signals[1].n_before == 360


def test_a_ratio_of_groups_is_one_ratio_for_each_group():
    slow = Signal("slow requests at *", "ratio", "slow/*", per="requests/*")
    runs = [a_run(counts={"slow/basket": 1, "requests/basket": 9, "slow/pay": 0, "requests/pay": 4, "requests/search": 7, "requests": 20})] * 3
    assert expand((slow,), runs) == (
        Signal("slow requests at basket", "ratio", "slow/basket", per="requests/basket"),
        Signal("slow requests at pay", "ratio", "slow/pay", per="requests/pay"))
    assert [read(signal, runs[0]) for signal in expand((slow,), runs)] == [(1.0, 9.0), (0.0, 4.0)]
    whole = Signal("slow share", "ratio", "slow/*", per="requests")
    assert [(signal.name, signal.per) for signal in expand((whole,), runs)] == [("slow share/basket", "requests"), ("slow share/pay", "requests")]
    assert expand((Signal("errors per request", "ratio", "errors", per="requests"),), runs)[0].per == "requests"


def test_quantities_in_words():
    assert [each(3.0, 5.0), each(0.001, 5.0), each(0.0, 5.0), each(3.0, 0.0)] == ["36 a minute", "0.72 an hour", "0 a minute", "3 a run"]
    assert [silence(8, 5.0), silence(144, 5.0), silence(1, 0.0)] == ["40 seconds", "12 minutes", "1 run"]
    assert news({}) == "nothing new"
    told = news({"error: <b>\x1b[31m\n" + "x" * 500: 2.0, **{f"error: {n}": 1.0 for n in range(9)}})
    assert told.startswith("10 never seen before, 11 times: “<b> [31m xxx")
    assert len(told) < 200
    assert told.isprintable()
