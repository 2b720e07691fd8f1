"""Time of day: simulated shops with a daily wave, where knowing it matters, and shops without one, where it must not."""

import json
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from judge_runs import DURATION, SPACING, START, alarm_after, frozen, series, slower, subject

from monitor.judge.evidence import strength
from monitor.judge.latency import LatencyFit
from monitor.judge.season import DAY, ENOUGH, WEEK, Season, thinned
from monitor.judge.signals import Run, read

DAYS = 14
WATCHED = 240                     # 2 h
SHOPS = 40
UPDATE = START + DAYS * DAY
Wave = Callable[[float], float]


def flat(_at: float) -> float:
    return 1.0


def sine(size: float) -> Wave:
    """Rises fastest at the update."""
    return lambda at: 1 + size * math.sin(2 * math.pi * (at - UPDATE) / DAY)


def opening(size: float) -> Wave:
    """Two levels, day and night; most of the rise takes two hours, with the update in their middle."""
    return lambda at: 1 + size * math.tanh(3 * math.sin(2 * math.pi * (at - UPDATE) / DAY))


def week(at: float) -> float:
    """A shop that is slow on two days of seven, at noon."""
    return 1.5 if int(at // DAY) % 7 in {2, 3} and 9 <= at % DAY / 3600 < 17 else 1.0


def waving(runs: list[Run], wave: Wave) -> list[Run]:
    return [replace(run, seconds=run.seconds * wave(run.at)) for run in runs]


def shop(seed: int, wave: Wave, *, sigma: float = 0.15, days: float = DAYS) -> tuple[list[Run], list[Run], list[Run]]:
    """(history, the newest 400 runs before the update, those after it), with a memory of 0.7 from run to run."""
    close = series(400 + WATCHED, seed, sigma=sigma, memory=0.7, at=DAYS * DAY - 400 * SPACING)
    spacing = DAYS * DAY / ENOUGH
    history = series(int(days * DAY / spacing), seed + 10_000, sigma=sigma, at=(DAYS - days) * DAY, spacing=spacing)
    return waving(history, wave), waving(close[:400], wave), waving(close[400:], wave)


def season(runs: list[Run]) -> Season | None:
    return Season.of([run.at for run in runs], [run.seconds for run in runs])


def alarm(before: list[Run], after: list[Run], known: Season | None) -> int | None:
    """After how many runs the test of durations alarms, as the only signal, with durations that are divided by their level."""
    level = known.level if known else flat
    fit = LatencyFit.of([run.seconds / level(run.at) for run in before])
    assert fit
    evidence = fit.start(WATCHED)
    for count, run in enumerate(after, 1):
        evidence.add(run.seconds / level(run.at))
        if strength(evidence, fit.stretch) >= 0:
            return count
    return None


def alarms(wave: Wave, *, told: bool, shops: int = SHOPS, sigma: float = 0.15) -> int:
    """How many of the shops alarm without cause."""
    found = 0
    for seed in range(shops):
        history, before, after = shop(seed, wave, sigma=sigma)
        found += alarm(before, after, season(history) if told else None) is not None
    return found


# ---- where it matters


@pytest.mark.parametrize(("wave", "without"), [(sine(0.05), 0), (sine(0.15), 2), (sine(0.4), 12), (opening(0.15), 12)])
def test_a_daily_wave_is_no_regression(wave: Wave, without: int) -> None:
    assert alarms(wave, told=False, shops=15) >= without
    assert alarms(wave, told=True) <= 2, "of 40: what a rate of 1 % exceeds in one case of 130"


def test_a_noisy_page_with_a_wave_is_no_regression_either() -> None:
    assert alarms(sine(0.15), told=False, sigma=0.4) >= 2
    assert alarms(sine(0.15), told=True, sigma=0.4) <= 2


def test_harm_is_found_in_spite_of_the_wave() -> None:
    found = []
    for seed in range(20):
        history, before, after = shop(seed, sine(0.15))
        found.append(alarm(before, slower(after, 1.3), season(history)) or 999)
    level = [alarm(*(slower(runs, by) for runs, by in zip(shop(seed, flat)[1:], (1.0, 1.3), strict=True)), None) or 999 for seed in range(20)]
    assert sorted(found)[10] <= sorted(level)[10] * 1.3, "nearly as soon as in a shop without a wave"
    assert max(found) < WATCHED


def test_the_level_is_that_of_the_wave() -> None:
    known = season(shop(1, sine(0.4))[0])
    assert known
    assert known.period == DAY
    for minute in range(0, 1440, 7):
        assert known.level(START + minute * 60) == pytest.approx(sine(0.4)(START + minute * 60), rel=0.05)
    assert sum(known.level(START + n * 60) for n in range(1440)) / 1440 == pytest.approx(1, abs=0.005)


def test_three_weeks_show_what_the_days_of_the_week_are_like() -> None:
    runs = waving(series(3 * ENOUGH, 1, spacing=21 * DAY / 3 / ENOUGH), week)
    known = season(runs)
    assert known
    assert known.period == WEEK
    noon = [known.level((day + 0.54) * DAY) for day in range(7)]
    assert [level / noon[0] for level in noon] == pytest.approx([1, 1, 1.5, 1.5, 1, 1, 1], rel=0.07)
    daily = season(waving(series(3 * ENOUGH, 1, spacing=21 * DAY / 3 / ENOUGH), sine(0.2)))
    assert daily
    assert daily.period == DAY, "a week that is seven times the same day is not worth its noise"


def test_a_new_hour_of_the_clocks_does_little_harm() -> None:
    """Daylight saving ended two days ago: the newest runs are an hour off."""
    for size in (0.15, 0.4):
        wave, found = sine(size), 0
        for seed in range(20):
            history, before, after = shop(seed, lambda at, wave=wave: wave(at - 3600 if at >= UPDATE - 2 * DAY else at))
            found += alarm(before, after, season(history)) is not None
        assert found <= 2


# ---- where it must not


@pytest.mark.parametrize("memory", [0.0, 0.7, 0.97])
def test_a_steady_shop_has_no_time_of_day(memory: float) -> None:
    for seed in range(10):
        assert season(series(ENOUGH, seed, memory=memory, spacing=DAYS * DAY / ENOUGH)) is None
        assert season(thinned(series(10_000, seed, memory=memory, spacing=DAYS * DAY / 10_000), DAYS * DAY)) is None


def test_days_that_differ_are_no_time_of_day() -> None:
    luck = random.Random(1)
    moods = {day: luck.uniform(0.5, 2) for day in range(30)}
    busy = {(day, hour): luck.uniform(0.8, 1.3) for day in range(30) for hour in range(24)}
    runs = series(ENOUGH, 2, spacing=DAYS * DAY / ENOUGH)
    assert season(waving(runs, lambda at: moods[int((at - START) // DAY)])) is None
    assert season(waving(runs, lambda at: busy[int((at - START) // DAY), int(at % DAY // 3600)])) is None, "what was so on one day does not count"
    both = season(waving(runs, lambda at: moods[int((at - START) // DAY)] * sine(0.2)(at)))
    assert both
    assert both.level(UPDATE + DAY / 4) == pytest.approx(1.2, rel=0.05)


@pytest.mark.parametrize(("days", "known"), [(6, False), (7, True), (14, True)])
def test_it_takes_a_week(days: float, known: bool) -> None:
    assert (season(shop(1, sine(0.4), days=days)[0]) is not None) is known


def test_hours_without_runs() -> None:
    history = shop(1, sine(0.4))[0]
    slept = [run for run in history if not 2 <= run.at % DAY / 3600 < 4]
    known, whole = season(slept), season(history)
    assert known
    assert whole
    for minute in range(0, 1440, 10):
        assert known.level(START + minute * 60) == pytest.approx(whole.level(START + minute * 60), rel=0.06), "between them it is a straight line"
    assert season([run for run in history if run.at % DAY < DAY / 2]) is None, "half of the day is not the day"
    assert season([run for run in history if (run.at - START) // DAY in {0, 13}]) is None


def test_an_hourly_probe_has_one_too() -> None:
    known = season(waving(series(14 * 24, 1, at=17 * 60, spacing=3600), sine(0.4)))
    assert known
    assert known.level(UPDATE + DAY / 4) == pytest.approx(1.4, rel=0.12)


# ---- bad input


def test_outliers_and_nonsense_do_no_harm() -> None:
    luck, history = random.Random(3), shop(1, sine(0.15))[0]
    wild = [replace(run, seconds=run.seconds * 50) if luck.random() < 0.05 else run for run in history]
    wild += [Run(START + n, True, seconds, SPACING) for n, seconds in enumerate((math.nan, math.inf, -math.inf, -1.0, 0.0))]
    wild += [Run(at, True, 0.2, SPACING) for at in (math.nan, math.inf)]
    known, whole = season(wild), season(history)
    assert known
    assert whole
    for minute in range(0, 1440, 10):
        assert known.level(START + minute * 60) == pytest.approx(whole.level(START + minute * 60), rel=0.03)
    assert known.level(math.nan) == known.level(math.inf) == 1.0


def test_one_bad_night_is_not_every_night() -> None:
    history = shop(1, sine(0.15))[0]
    bad = [replace(run, seconds=run.seconds * 20) if START + 3 * DAY < run.at < START + 3 * DAY + 6 * 3600 else run for run in history]
    known, whole = season(bad), season(history)
    assert known
    assert whole
    assert all(known.level(START + n * 600) == pytest.approx(whole.level(START + n * 600), rel=0.05) for n in range(144))


@pytest.mark.parametrize("runs", [[], [Run(START, True, 0.2, SPACING)], [replace(run, seconds=0.2) for run in series(5000, spacing=300)],
                                  [replace(run, at=START) for run in series(500)]])
def test_nothing_to_learn_from(runs: list[Run]) -> None:
    assert season(runs) is None


def test_it_is_stored_exactly() -> None:
    known = season(shop(1, sine(0.15))[0])
    assert known
    assert Season.from_dict(json.loads(json.dumps(known.to_dict()))) == known


def test_it_is_quick() -> None:
    runs = waving(series(20_000, 1, spacing=DAYS * DAY / 20_000), sine(0.2))
    begun = time.process_time()
    assert season(runs)
    assert time.process_time() - begun < 1.0, "0.1 s on an idle machine"


# ---- thinning


def test_thinned_runs_are_spread_evenly() -> None:
    runs = series(40_000, 1, spacing=DAYS * DAY / 40_000)
    kept = thinned(reversed([*runs, *runs[-2000:]]), DAYS * DAY)
    assert ENOUGH - 1 <= len(kept) <= ENOUGH + 1
    gaps = [later.at - earlier.at for earlier, later in pairwise(kept)][1:]
    assert min(gaps) == pytest.approx(max(gaps), abs=2 * DAYS * DAY / 40_000)
    few = series(50, 1)
    assert thinned([*few, Run(math.nan, True, 0.2, SPACING)], SPACING * 50) == few


# ---- in the baseline


def test_a_baseline_with_a_history_knows_the_time_of_day() -> None:
    history, before, after = shop(5, sine(0.4))
    target = subject(signals=(DURATION,))
    told, untold = frozen(before, target, history=history), frozen(before, target)
    row = told.signals[0]
    assert row.season == season(history)
    assert untold.signals[0].season is None
    assert row.read(after[-1]) == read(DURATION, after[-1]) / row.season.level(after[-1].at)
    assert alarm_after(before, after, target, watch=WATCHED * SPACING) is not None


def test_a_history_of_a_steady_shop_changes_nothing() -> None:
    history, before, _ = shop(6, flat)
    assert frozen(before, history=history) == frozen(before)
