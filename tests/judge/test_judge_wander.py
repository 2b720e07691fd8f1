"""Days that differ: a shop whose durations wander is not called worse for it, and a steady shop loses nothing."""

import math
import random
import time
from dataclasses import replace

import pytest
from judge_runs import DURATION, SPACING, START, alarm_after, first_alarm, frozen, series, slower, subject

from monitor.judge.season import DAY, ENOUGH
from monitor.judge.signals import Run
from monitor.judge.verdict import Case, Judging
from monitor.judge.wander import AHEAD, MOST, wander

DAYS, WATCHED = 14, 240
BACK = 400 * SPACING
TARGET = subject(signals=(DURATION,))


def mood(seed: int, size: float):
    """A level that takes another value every three hours: exp(size * N(0, 1)), with straight lines between."""
    luck = random.Random(seed)
    logs = [luck.gauss(0, size) for _ in range(DAYS * 8 + 10)]

    def level(at: float) -> float:
        place, share = divmod((at - START) / 10_800, 1)
        return math.exp(logs[int(place)] * (1 - share) + logs[int(place) + 1] * share)
    return level


def shop(seed: int, size: float, sigma: float = 0.15) -> tuple[list[Run], list[Run], list[Run]]:
    """(history, the newest 400 runs before the update, those of two hours after it)."""
    level = mood(seed, size)
    close = series(400 + WATCHED, seed, sigma=sigma, memory=0.7, at=DAYS * DAY - BACK)
    history = series(ENOUGH, seed + 10_000, sigma=sigma, spacing=DAYS * DAY / ENOUGH)
    close, history = ([replace(run, seconds=run.seconds * level(run.at)) for run in runs] for runs in (close, history))
    return history, close[:400], close[400:]


def told(runs: list[Run]) -> list[tuple[float, float]]:
    return [(run.at, run.seconds) for run in runs]


def alarms(size: float, harm: float = 1.0, *, know: bool = True, shops: int = 30) -> int:
    """In how many of the shops the update is called worse."""
    found = 0
    for seed in range(shops):
        history, before, after = shop(seed, size)
        baseline = frozen(before, TARGET, history=history if know else ())
        found += first_alarm(Case([baseline], Judging(), watch=WATCHED * SPACING), slower(after, harm)) is not None
    return found


# ---- where it matters


def test_a_shop_that_wanders_is_not_called_worse_for_it() -> None:
    assert alarms(0.2, know=False, shops=60) >= 5
    assert alarms(0.2, shops=60) <= 1


def test_it_is_told_what_is_asked_on_top() -> None:
    history, before, after = shop(3, 0.15)
    baseline = frozen(before, TARGET, history=history)
    assert 1.1 < wander(told(history), BACK) < 1.4
    assert "durations wander by" in baseline.signals[0].note
    case = Case([baseline], Judging())
    case.add(TARGET.key, after[0], warm=False)
    assert "durations wander by" in case.ruling(final=False).signals[0].note


def test_large_harm_is_found_all_the_same() -> None:
    assert alarms(0.15, 2.0, shops=15) == 15


# ---- where it must not


@pytest.mark.parametrize("sigma", [0.15, 0.4])
def test_a_steady_shop_loses_nothing(sigma: float) -> None:
    levels = sorted(wander(told(shop(seed, 0.0, sigma)[0]), BACK) for seed in range(30))
    assert levels[24] == 1.0, "in four of five shops it is nothing at all"
    assert levels[-1] < 1.0 + sigma / 3
    later = [
        (alarm_after(before, slower(after, 1.3), TARGET, watch=WATCHED * SPACING),
         first_alarm(Case([frozen(before, TARGET, history=history)], Judging(), watch=WATCHED * SPACING), slower(after, 1.3)))
        for history, before, after in (shop(seed, 0.0) for seed in range(12))
    ]
    assert sum(knowing or 999 for _, knowing in later) <= 1.1 * sum(without or 999 for without, _ in later)


def test_an_outage_that_nobody_noticed_is_no_wander() -> None:
    history, _, _ = shop(1, 0.0)
    bad = [replace(run, seconds=run.seconds * 3) if 5 * DAY < run.at - START < 5 * DAY + 3 * 3600 else run for run in history]
    assert wander(told(bad), BACK) == pytest.approx(wander(told(history), BACK), abs=0.02)


def test_a_shift_that_stayed_is_no_wander() -> None:
    history, _, _ = shop(1, 0.0)
    shifted = [replace(run, seconds=run.seconds * 2) if run.at - START > 9 * DAY else run for run in history]
    assert wander(told(shifted), BACK) == pytest.approx(wander(told(history), BACK), abs=0.02)


# ---- too little, and nonsense


@pytest.mark.parametrize("history", [
    [], series(1), series(ENOUGH), series(ENOUGH, spacing=6 * DAY / ENOUGH), series(DAYS * 24, spacing=3600.0),
    [replace(run, at=START) for run in series(500)],
])
def test_it_takes_a_week_of_runs_every_few_minutes(history: list[Run]) -> None:
    assert wander(told(history), BACK) == 1.0


def test_what_is_no_number_is_left_out_and_there_is_a_limit() -> None:
    history = told(shop(2, 0.15)[0])
    odd = [(math.nan, 0.2), (math.inf, 0.2), *((START + n, seconds) for n, seconds in enumerate((math.nan, math.inf, -1.0, 0.0)))]
    assert wander([*odd, *history[::-1]], BACK) == wander(history, BACK)
    assert wander(told(shop(2, 2.0)[0]), BACK) == MOST
    assert wander(history, 3 * DAY) > 1.0, "bursts: the past is days long"
    assert wander(history, DAYS * DAY) == 1.0
    assert wander([(at, 0.2) for at, _ in history], BACK) == 1.0
    assert AHEAD == 7200.0


def test_time_without_runs_is_passed_over_at_once() -> None:
    """Runs of wrong clocks lie thousands of years apart: by the hour that would take minutes."""
    runs = told(shop(1, 0.2)[0])
    later = [(at + 10_000_000 * AHEAD, seconds) for at, seconds in runs]
    last = runs[-1][0]
    near = [(at + math.ceil((last - START + BACK) / AHEAD) * AHEAD, seconds) for at, seconds in runs]
    begun = time.process_time()
    found = wander([*runs, *later], BACK)
    assert time.process_time() - begun < 2
    assert found == pytest.approx(wander([*runs, *near], BACK), rel=0.05)
