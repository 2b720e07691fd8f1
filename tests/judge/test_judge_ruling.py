"""Which verdict falls by which rule, what is missing, and how it is told."""

import json
from dataclasses import replace

import pytest
from judge_runs import (
    DURATION,
    SPACING,
    before_and_after,
    failing,
    frozen,
    in_turn,
    series,
    slower,
    subject,
)

from monitor.judge.baseline import Baseline
from monitor.judge.ruling import REASONS
from monitor.judge.signals import Margin
from monitor.judge.verdict import Case, Judging

EASY = Margin(success=0.2)


def fed(targets, harm=None, *, count=400, watched=60, settings=None, **how):
    """A case of these targets, each with a past and a present; `harm` maps names to what happens to their runs."""
    baselines, shops = [], {}
    for number, target in enumerate(targets):
        before, after = before_and_after(count, watched, number, median=0.1 * (number + 1))
        baselines.append(frozen(before, target, **how))
        shops[target.key] = (harm or {}).get(target.probe, list)(after)
    case = Case(baselines, settings or Judging())
    for key, run in in_turn(shops):
        case.add(key, run, warm=False)
    return case


def test_a_good_update_passes_only_where_a_segment_may_end_in_pass():
    case = fed([subject("home", margin=EASY), subject("pay", kind="checkout", margin=EASY)], horizon=240)
    held = case.ruling(final=False)
    assert (held.verdict, held.reason, held.missing) == ("watching", "not_final", ())
    ruling = case.ruling(final=True)
    assert (ruling.verdict, ruling.reason) == ("pass", "no_harm_seen")
    assert ruling.sentence == "No harm seen in 30 minutes, 60 page loads, 60 checkouts."
    assert all(row.ruled_clean and row.power >= 0.8 and row.needed <= 60 for row in ruling.signals)


def test_the_defaults_pass_a_good_update_within_two_hours():
    ended = [
        fed([subject("home"), subject("search"), subject("cart")], watched=240, horizon=240).ruling(final=True).verdict
    ]
    assert ended == ["pass"]


def test_what_is_missing_is_counted_in_runs():
    case = fed([subject("home", margin=EASY)], watched=5, horizon=240)
    watching, over = case.ruling(final=True), case.ruling(final=True, over=True)
    assert (watching.verdict, over.verdict, over.reason) == ("watching", "inconclusive", "too_few_runs")
    needed = {row.signal: row.needed for row in over.signals}
    assert over.missing[0] == f"home: needs about {needed['success'] - 5} more page loads (success)"
    assert over.sentence.startswith("Cannot tell whether the update did harm: 2.5 minutes, 5 page loads; missing: home")


def test_failures_are_told_in_a_shop_owners_words():
    case = fed([subject("home"), subject("pay", kind="checkout")], {"pay": lambda runs: failing(runs, 1.0)}, watched=4)
    ruling = case.ruling(final=False)
    assert (ruling.verdict, ruling.reason) == ("regression", "failures")
    assert ruling.sentence == "Customers cannot check out: *pay* failed 4 of 4 since the update, before 0 of 400."
    row = next(row for row in ruling.signals if row.guilty)
    assert (row.probe, row.n_before, row.failed_after, row.before, row.after) == ("pay", 400, 4, 0.0, 1.0)
    assert row.evidence >= row.threshold
    assert row.ratio_lower <= row.ratio <= row.ratio_upper < 1


def test_slowness_is_told_with_both_medians_and_its_ratio():
    case = fed([subject("home"), subject("catalogue")], {"catalogue": lambda runs: slower(runs, 2.0)}, watched=40)
    ruling = case.ruling(final=True)
    assert (ruling.verdict, ruling.reason) == ("regression", "slower")
    assert ruling.sentence.startswith("Customers wait longer: *catalogue* takes ")
    row = next(row for row in ruling.signals if row.guilty)
    assert row.signal == "duration"
    assert row.ratio_lower < 2.0 < row.ratio_upper
    assert row.ratio == pytest.approx(2.0, rel=0.1)


def test_a_slow_tail_is_not_called_a_slowdown_of_all():
    def tail(runs):
        return [replace(run, seconds=run.seconds * (6 if number % 6 == 1 else 1)) for number, run in enumerate(runs)]
    ruling = fed([subject("home")], {"home": tail}).ruling(final=False)
    assert (ruling.verdict, ruling.reason) == ("regression", "slow_tail")
    assert "one in twenty runs of *home* takes" in ruling.sentence


def test_a_regression_stays_one_when_the_shop_recovers_within_the_segment():
    before, after = before_and_after(400, 60)
    case = Case([frozen(before)], Judging())
    for run in failing(after[:5], 1.0) + after[5:]:
        case.add(("home", "", ""), run, warm=False)
    ruling = case.ruling(final=True)
    assert ruling.verdict == "regression"
    assert ruling.alarmed_at <= after[3].at


def test_a_short_baseline_is_named_and_success_is_judged_all_the_same():
    case = fed([subject("home", margin=EASY)], count=41, horizon=240)
    ruling = case.ruling(final=True, over=True)
    assert (ruling.verdict, ruling.reason) == ("inconclusive", "baseline_too_short")
    assert ruling.missing == ("home: baseline too short: 41 of 90 runs, enough in about 24 minutes (duration is not judged)",)
    assert fed([subject("home")], {"home": lambda runs: failing(runs, 1.0)}, count=41).alarm


def test_only_critical_probes_are_needed_for_a_pass_and_all_of_them_when_none_is():
    targets = [subject("home", margin=EASY), subject("blog", critical=False)]
    ruling = fed(targets, horizon=240).ruling(final=True)
    assert ruling.verdict == "pass"
    assert {row.probe for row in ruling.signals if row.required} == {"home"}
    ruling = fed([replace(target, critical=False) for target in targets], horizon=240).ruling(final=True)
    assert ruling.verdict == "watching"
    assert {row.probe for row in ruling.signals if row.required} == {"home", "blog"}


def test_a_signal_too_wild_for_its_margin_keeps_the_pass_away():
    before, after = before_and_after(400, 240, sigma=1.2)
    case = Case([frozen(before, horizon=240)], Judging())
    for run in after:
        case.add(("home", "", ""), run, warm=False)
    ruling = case.ruling(final=True, over=True)
    assert (ruling.verdict, ruling.reason) == ("inconclusive", "too_noisy")
    assert any("duration varies too much to rule out a slowdown of 20 %" in text for text in ruling.missing)


def test_no_pass_while_the_newest_runs_fail():
    before, after = before_and_after(400, 60)
    case = Case([frozen(before, subject(margin=EASY), horizon=240)], Judging())
    for run in after[:58] + failing(after[58:], 1.0):
        case.add(("home", "", ""), run, warm=False)
    ruling = case.ruling(final=True)
    assert ruling.verdict != "pass"


def test_nothing_is_blamed_on_the_update_while_a_control_probe_is_worse_too():
    both = {name: lambda runs: failing(runs[:20], 1.0) + runs[20:] for name in ("pay", "bank")}
    targets = [subject("pay"), subject("bank", control=True)]
    during = fed(targets, {name: lambda runs: failing(runs, 1.0) for name in both}, watched=20)
    ruling = during.ruling(final=True)
    assert (ruling.verdict, ruling.reason) == ("watching", "control_worse")
    assert during.ruling(final=True, over=True).verdict == "inconclusive"
    assert "*bank*" in ruling.sentence
    after = fed(targets, both, watched=60).ruling(final=True)
    assert after.verdict == "watching"
    assert after.reason != "control_worse"


def test_harm_that_outlasts_the_control_probes_is_blamed_on_the_update():
    harm = {"pay": lambda runs: failing(runs, 1.0), "bank": lambda runs: failing(runs[:20], 1.0) + runs[20:]}
    ruling = fed([subject("pay"), subject("bank", control=True)], harm, watched=60).ruling(final=True)
    assert ruling.verdict == "regression"


def test_a_control_probe_alone_neither_alarms_nor_keeps_a_pass_away():
    harm = {"bank": lambda runs: failing(runs, 1.0)}
    case = fed([subject("home", margin=EASY), subject("bank", control=True)], harm, horizon=240)
    assert case.alarm is None
    ruling = case.ruling(final=True)
    assert ruling.verdict == "pass"
    assert next(row for row in ruling.signals if row.probe == "bank").note.startswith("control")


def test_a_phase_of_a_page_alarms_and_is_named_but_is_not_needed_for_a_pass():
    phases = (*subject().signals, replace(DURATION, name="connect", value="connect"))
    target = subject(signals=phases, margin=EASY)
    def with_phase(runs, factor=1.0):
        return [replace(run, values={"connect": run.seconds * 0.1 * factor}) for run in runs]
    before, after = before_and_after(400, 60)
    quiet = Case([frozen(with_phase(before), target, horizon=240)], Judging())
    slow = Case([frozen(with_phase(before), target)], Judging())
    for run, worse in zip(with_phase(after), with_phase(after, 3.0), strict=True):
        quiet.add(target.key, run, warm=False)
        slow.add(target.key, worse, warm=False)
    assert quiet.ruling(final=True).verdict == "pass"
    assert "*home* (connect)" in slow.ruling(final=True).sentence


def test_nothing_to_judge_is_said_and_an_unknown_target_is_passed_over():
    case = Case([], Judging())
    case.add(("new", "", ""), series(1)[0], warm=False)
    ruling = case.ruling(final=True, over=True)
    assert (ruling.verdict, ruling.reason) == ("inconclusive", "nothing_judged")
    case = Case([frozen([])], Judging())
    assert case.ruling(final=True).reason == "baseline_too_short"


def test_a_smaller_part_of_the_budget_needs_more_evidence():
    before, _ = before_and_after(400, 1)
    whole, part = Case([frozen(before)], Judging()), Case([frozen(before)], Judging(), share=0.25)
    assert part.threshold > whole.threshold
    strict = Case([frozen(before)], Judging(false_alarm_rate=0.001))
    assert strict.threshold == pytest.approx(whole.threshold + 2.302585)


def test_every_ruling_is_json_and_its_reason_is_on_the_list():
    for watched, harm in ((0, None), (5, None), (60, None), (9, {"home": lambda runs: failing(runs, 1.0)})):
        for over in (False, True):
            ruling = fed([subject("home")], harm, watched=watched).ruling(final=True, over=over)
            assert ruling.reason in REASONS
            assert json.loads(json.dumps(ruling.to_dict(), allow_nan=False))["verdict"] == ruling.verdict


def test_incidents_and_other_spacings_stay_out_of_the_baseline():
    runs = series(300)
    bad = [replace(run, ok=False) for run in runs[100:150]]
    times = (runs[100].at, runs[149].at)
    baseline = frozen(runs[:100] + bad + runs[150:] + series(50, spacing=SPACING / 4), excluded=[times])
    assert baseline.runs == 250
    assert baseline.signals[0].fit.failures == 0
    assert isinstance(baseline, Baseline)
