"""A log that always spoke and stopped is a sign; one that was often silent says nothing when it is silent again."""

import random

import pytest
from judge_counts import NOT_A_NUMBER, alarms, first_over, guilty_line, judged, stands

from monitor.judge.silence import LEAST_GAP, SilenceFit, gaps
from probes.sample import Signal

LINES = Signal("lines", "silence", "lines", family="log")


def speaking(count, share, seed):
    """Lines per run of a log that speaks in this share of its runs."""
    rng = random.Random(seed)
    return [float(rng.randint(1, 20)) if rng.random() < share else 0.0 for _ in range(count)]


def lapsing(count, seed):
    """It falls silent for about eight runs now and then."""
    rng, out = random.Random(seed), []
    while len(out) < count:
        out += [5.0] * rng.randint(5, 30) + [0.0] * round(rng.expovariate(1 / 8))
    return out[:count]


def test_gaps_are_counted():
    assert gaps([0, 0, 1, 0, 2, 3, 0]) == [2, 1, 1]
    assert gaps([1, 1]) == []


@pytest.mark.parametrize("share", [1.0, 0.9, 0.6])
def test_a_log_that_spoke_and_stopped_is_found(share):
    for seed in range(10):
        past = speaking(400, share, seed)
        found = first_over(SilenceFit.of(past).start(60), [0.0] * 60)
        assert found is not None
        assert found >= max(LEAST_GAP, 3 * max(gaps(past), default=0))


@pytest.mark.parametrize("share", [1.0, 0.9, 0.6, 0.3, 0.02])
@pytest.mark.parametrize("count", [90, 400])
def test_a_log_that_speaks_as_ever_does_not_alarm(share, count):
    assert alarms(100, lambda s: first_over(SilenceFit.of(speaking(count, share, s)).start(60), speaking(60, share, s + 999))) == 0


def test_a_log_with_lapses_is_allowed_its_lapses():
    assert alarms(200, lambda s: first_over(SilenceFit.of(lapsing(400, s)).start(60), lapsing(60, s + 999))) <= 2


def test_a_log_that_was_often_silent_never_alarms():
    for share in (0.3, 0.02, 0.0):
        assert first_over(SilenceFit.of(speaking(400, share, 1)).start(1440), [0.0] * 1440) is None


@pytest.mark.parametrize("past", [[], [0.0] * 400, [1.0] * 400, [1e300] * 400, [*NOT_A_NUMBER] * 80, [1.0, 0.0] * 200])
def test_hostile_lines(past):
    stands(SilenceFit.of(past), [*NOT_A_NUMBER, *[0.0] * 3000, 1e300, 1.0])


def test_it_is_calm_when_it_speaks_again():
    evidence = SilenceFit.of([1.0] * 400).start(60)
    for _ in range(20):
        evidence.add(0.0)
    assert (evidence.unsettled(), evidence.calm()) == (True, False)
    evidence.add(3.0)
    assert (evidence.unsettled(), evidence.calm()) == (False, True)
    assert evidence.counted() >= 0             # what alarmed stays so within its segment


def test_a_silence_is_told_in_minutes():
    before = [{"lines": int(n)} for n in speaking(400, 0.99, 4)]
    found, case = judged(LINES, before, [{"lines": 0}] * 60)
    assert found is not None
    assert found <= 30
    row, sentence = guilty_line(case), case.ruling(final=False).sentence
    assert (row.test, row.ratio, row.after) == ("silence", None, float(found))
    assert sentence.startswith("The log of *app-errors* has been silent for ")
    assert "; before never longer than " in sentence
