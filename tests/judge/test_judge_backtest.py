"""Placebo updates over simulated shops: what a good shop must not show, what harm must, and what cannot be measured."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
from judge_runs import SPACING, START, failing, frozen, in_turn, series, slower, subject

from monitor.health import Rule
from monitor.judge import backtest
from monitor.judge.backtest import ENOUGH_PAST, HARMS, History, Placed, Plan, Window, outages, place, replay, spread
from monitor.judge.signals import Margin, Run
from monitor.judge.tally import Share, Tally, tally, told_together
from monitor.judge.verdict import Case, Judging

PLAN = Plan(Judging(observe="30m"))
LENGTH = PLAN.length
RUNS = int(LENGTH / SPACING)


def shop(runs: list[Run], name: str = "home", **how: bool) -> History:
    """With a margin that half an hour of runs can rule out."""
    return History.of(subject(name, margin=Margin(success=0.25, p50=0.25), **how), SPACING, runs)


def placed(*histories: History, plan: Plan = PLAN, updates: tuple[tuple[float, float], ...] = ()) -> Placed:
    return place("", histories, plan, updates)


def told(*histories: History, most: int = 12) -> Tally:
    windows = spread(placed(*histories).windows, most)
    return tally([replay(window, PLAN) for window in windows], [[]], 1.0)


@pytest.fixture(scope="module")
def good() -> Tally:
    return told(shop(series(1600, 1)), shop(series(1600, 2), "pay"))


def test_a_good_shop_is_called_none_of_its_updates_a_regression_and_passes_them(good: Tally) -> None:
    assert (good.replayed, good.regressions.hits, good.regressions.of, good.disturbed.of) == (12, 0, 12, 0)
    assert good.passes.hits + sum(good.inconclusive.values()) == 12
    assert good.passes.hits >= 10
    assert 0 < good.pass_took.seconds <= PLAN.warm_up + PLAN.observe
    assert good.outages.hits == good.outages_told == 0


def test_harm_is_found_the_larger_the_sooner(good: Tally) -> None:
    found = {one.harm: one for one in good.harms}
    assert found.keys() == {harm.name for harm in HARMS}
    for name in ("x1.5", "x2", "x3", "fail20", "outage"):
        assert found[name].found.share == 1.0, name
        assert found[name].passed == 0
    assert found["outage"].took.runs <= 4
    assert found["outage"].took.runs <= found["fail20"].took.runs
    assert found["x3"].took.runs <= found["x2"].took.runs <= found["x1.5"].took.runs < found["x1.2"].took.runs
    assert found["outage"].down.share == 1.0
    assert 60 <= found["outage"].down_seconds <= 180      # 3 of 5, for a minute
    assert found["x3"].down.hits == 0


def test_the_same_history_gives_the_same_answer(good: Tally) -> None:
    again = told(shop(list(reversed(series(1600, 1)))), shop(series(1600, 2), "pay"))
    assert again == good
    assert told(shop(series(1600, 3)), shop(series(1600, 2), "pay")) != good


def test_a_shop_that_always_fails_now_and_then_is_no_false_alarm() -> None:
    flaky = told(shop(failing(series(1600, 4), 0.08, seed=4)))
    assert flaky.regressions.hits == 0
    assert flaky.passes.hits < flaky.passes.of
    assert flaky.inconclusive


def test_a_shop_that_gets_slower_by_itself_is_counted_and_named() -> None:
    runs = series(1600, 5)
    late = next(window.at for window in placed(shop(runs)).windows if window.at > runs[800].at)
    changed = [run if run.at < late else slower([run], 1.8)[0] for run in runs]
    found = told(shop(changed), most=99)
    assert found.regressions.hits >= 1
    assert found.false[0].at == pytest.approx(late)
    assert found.false[0].harmless.guilty == ("home: duration",)
    assert found.pages_a_week == pytest.approx(7 * found.regressions.share)


def test_an_outage_is_no_false_alarm_and_nobodys_past() -> None:
    runs = series(1600, 6)
    begun, over = runs[700].at, runs[760].at
    broken = [replace(run, ok=not begun <= run.at <= over) for run in runs]
    history = shop(broken)
    downs = list(outages(history.subject, Rule(), broken))
    assert [(down.since, down.told > begun) for down in downs] == [(begun, True)]
    windows = placed(history).windows
    upset = [window for window in windows if window.disturbed]
    assert upset
    assert all(window.at < over + 600 and window.at + LENGTH > begun for window in upset)
    assert all(run.ok for window in windows for run in window.slices[0].past)
    found = tally([replay(window, PLAN) for window in windows], [downs], 1.0)
    assert found.regressions.hits == 0
    assert (found.outages.hits, found.outages_told) == (1, 1)
    assert all(not one.harmed for one in [replay(window, PLAN) for window in upset])


def test_updates_lie_back_to_back_and_keep_clear_of_real_ones() -> None:
    runs = series(1600, 7)
    windows = placed(shop(runs)).windows
    starts = [window.at for window in windows]
    assert all(later - earlier == pytest.approx(LENGTH) for earlier, later in pairwise(starts))
    assert starts[0] > runs[ENOUGH_PAST - 1].at
    assert starts[-1] + LENGTH <= runs[-1].at + SPACING
    assert all(run.at < window.at for window in windows for run in window.slices[0].past)
    assert all(window.at <= run.at < window.at + LENGTH for window in windows for run in window.slices[0].after)
    kept = placed(shop(runs), updates=((starts[2] + 60, starts[2] + 120),))
    assert kept.skipped == {"update": 1}
    assert len(kept.windows) == len(windows) - 1


def test_a_time_in_which_nobody_was_watching_is_left_out() -> None:
    runs = series(1600, 8)
    silent = [run for run in runs if not runs[600].at <= run.at < runs[900].at]
    found = placed(shop(silent))
    assert found.skipped["gap"] >= 2
    assert all(len(window.slices[0].after) >= RUNS * 0.7 for window in found.windows)


def test_too_little_history_gives_no_update() -> None:
    assert placed(shop(series(ENOUGH_PAST + RUNS // 2, 9))).windows == ()
    assert placed(shop([])).windows == ()
    assert placed(shop(series(10, 9))).windows == ()
    assert shop(series(100, 9)).hopeless(PLAN)
    assert not shop(series(ENOUGH_PAST + RUNS, 9)).hopeless(PLAN)
    assert len(placed(shop(series(ENOUGH_PAST + RUNS + 2, 9))).windows) == 1


def test_a_target_that_is_not_there_yet_is_in_nobodys_way() -> None:
    old, new = series(1600, 10), series(400, 11, at=1200 * SPACING)
    windows = placed(shop(old), shop(new, "pay")).windows
    assert {len(window.slices) for window in windows} == {1, 2}
    assert min(window.at for window in windows if len(window.slices) == 2) > new[0].at


@pytest.mark.parametrize("wrong", [
    {"seconds": math.nan}, {"seconds": math.inf}, {"seconds": -1.0}, {"at": math.nan}, {"at": -5.0}, {"at": math.inf}], ids=str)
def test_bad_numbers_are_passed_over(wrong: dict[str, float]) -> None:
    runs = [replace(run, **wrong) if place % 7 == 3 else run for place, run in enumerate(series(700, 12))]
    found = told(shop(runs), most=3)
    assert (found.regressions.hits, found.replayed) == (0, 3)
    assert next(one for one in found.harms if one.harm == "x3").found.share == 1.0


def test_runs_may_come_in_any_order_and_twice() -> None:
    runs = series(400, 13)
    tangled = runs[::2] + runs[1::2] + [replace(run) for run in runs[:5]]
    history = shop(tangled)
    assert [run.at for run in history.runs] == sorted(run.at for run in tangled)
    assert told(history, most=2).regressions.hits == 0


def test_harm_is_put_into_critical_probes_only() -> None:
    histories = [shop(series(400, 14)), shop(series(400, 15), "blog", critical=False), shop(series(400, 16), "world", critical=False, control=True)]
    window = placed(*histories).windows[0]
    assert {cut.subject.probe: cut.harmed for cut in window.slices} == {"home": True, "blog": False, "world": False}
    ends = replay(window, PLAN)
    assert {name.split(":")[0] for end in ends.harmed.values() for name in end.guilty} == {"home"}


def test_it_is_judged_as_an_update_is() -> None:
    """The same alarm as a Case that is fed by hand."""
    window = placed(shop(series(400, 17)), shop(series(400, 18), "pay")).windows[0]
    harm = next(harm for harm in HARMS if harm.name == "x1.5")
    baselines = [frozen(cut.past, cut.subject, horizon=cut.horizon) for cut in window.slices]
    after = {cut.subject.key: backtest._after(window, cut, harm) for cut in window.slices}
    case = Case(baselines, PLAN.settings, share=0.5, watch=PLAN.observe + PLAN.warm_up)
    for key, run in in_turn(after):
        if run.at < window.at + PLAN.rollout:
            case.add(key, run, warm=run.at < window.at + PLAN.warm_up)
        if case.alarm:
            break
    assert case.alarm is not None
    decided = next(run for run in (*after.values(),) for run in run if run.at == case.alarm.at)
    assert replay(window, PLAN).harmed["x1.5"].seconds == pytest.approx(decided.at + decided.seconds - window.at)


def test_a_pass_is_found_at_the_first_run_that_allows_it() -> None:
    """Rulings are asked for rarely; asking after every run finds none earlier."""
    window = placed(shop(series(400, 19)), shop(series(400, 20), "pay")).windows[0]
    end = replay(window, PLAN).harmless
    assert end.verdict == "pass"
    baselines = [frozen(cut.past, cut.subject, horizon=cut.horizon) for cut in window.slices]
    case = Case(baselines, PLAN.settings, share=0.5, watch=PLAN.observe + PLAN.warm_up)
    finish = window.at + PLAN.rollout
    for key, run in in_turn({cut.subject.key: [run for run in cut.after if run.at >= finish] for cut in window.slices}):
        case.add(key, run, warm=run.at < finish + PLAN.warm_up)
        if case.ruling(final=True).verdict == "pass":
            break
    assert end.after_finish == pytest.approx(run.at + run.seconds - finish)


def test_a_slow_history_is_told_as_if_it_were_one_every_half_minute() -> None:
    spacing = 3600.0
    runs = [replace(run, at=START + place * spacing, spacing=spacing) for place, run in enumerate(series(400, 21))]
    plan = Plan(Judging(observe="30m"), stretch=spacing / 30)
    windows = place("", [History.of(subject(), spacing, runs)], plan).windows
    assert len(windows) == (400 - ENOUGH_PAST) // RUNS
    assert [len(window.slices[0].after) for window in windows] == [RUNS] * len(windows)
    assert replay(windows[0], plan).harmless.verdict != "regression"


def test_spreading_takes_from_the_whole_history() -> None:
    windows = [Window("", float(at), (), disturbed=False) for at in range(100)]
    assert spread(windows, 200) == windows
    few = [window.at for window in spread(windows, 10)]
    assert len(set(few)) == 10
    assert few == sorted(few)
    assert few[0] < 10
    assert few[-1] > 89


def test_none_in_n_leaves_room_for_more_the_fewer_there_were() -> None:
    assert Share(0, 0).share is None
    assert Share(0, 0).bounds == (0.0, 1.0)
    assert Share(0, 40).bounds[1] == pytest.approx(3.84 / 43.84, abs=1e-3)
    assert Share(0, 381).bounds[1] < 0.01 <= Share(0, 379).bounds[1]
    lower, upper = Share(4, 200).bounds
    assert lower < 0.02 < upper


def test_outages_at_the_same_time_are_one_page() -> None:
    down = backtest.Down
    assert told_together([]) == 0
    assert told_together([down(0, 10, 100), down(5, 20, 50), down(60, 70, 200), down(290, 300, math.inf), down(400, 410, 500)]) == 2
