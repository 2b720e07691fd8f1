"""What an update that changes nothing may do: P(alarm within the horizon), never the nominal number (detection.md 8.4)."""

import pytest
from judge_runs import alarm_after, before_and_after, frozen, in_turn, subject

from monitor.judge.verdict import Case, Judging


@pytest.mark.parametrize("memory", [0.0, 0.5])
@pytest.mark.parametrize("count", [90, 400])
def test_an_update_that_changes_nothing_alarms_in_at_most_two_of_a_hundred(count, memory):
    alarms = sum(
        alarm_after(*before_and_after(count, 60, seed, sigma=0.4, fails=0.01, memory=memory)) is not None for seed in range(300)
    )
    assert alarms <= 6


def test_watching_for_two_hours_does_not_multiply_false_alarms():
    alarms = sum(
        alarm_after(*before_and_after(400, 240, seed, sigma=0.3, fails=0.005), watch=7200.0) is not None for seed in range(150)
    )
    assert alarms <= 3


def test_a_hundred_targets_of_which_none_got_worse_share_one_budget():
    alarms = 0
    for update in range(4):
        targets = [subject(f"p{number}", critical=number < 20) for number in range(100)]
        shops, baselines = {}, []
        for number, target in enumerate(targets):
            before, shops[target.key] = before_and_after(120, 60, update * 1000 + number, sigma=0.3, fails=0.005)
            baselines.append(frozen(before, target))
        case = Case(baselines, Judging())
        for key, run in in_turn(shops):
            case.add(key, run, warm=False)
        alarms += case.alarm is not None
    assert alarms == 0
