"""A canary beside the rest of the shop: what hits both cohorts at the same time is not the update's doing.

The canary keeps its test against its own past, which is sharp. Side by side it only has to stand out: gates that multiply
its evidence by 0 or 1 leave the false-alarm rate as it is, and the hour, the campaign and the bad day of the data centre cancel.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from monitor.judge.baseline import Baseline, Before
from monitor.judge.distributions import quantile
from monitor.judge.evidence import Watched
from monitor.judge.latency import BODY_GATE, GATED, TAIL_BURST, LatencyFit
from monitor.judge.signals import TargetKey, same_spacing
from monitor.judge.success import SuccessFit

TIMES = 2.0                       # the canary's share of failed runs, as a multiple of the control cohort's, that stands out
_LEAST = 3                        # durations of the control cohort below which nothing can be said of it


def pairs(baselines: Iterable[Baseline], phase: str) -> dict[TargetKey, TargetKey]:
    """Each target of the cohort that `phase` is named after, with its control cohort."""
    keys = {baseline.subject.key for baseline in baselines}
    found = {}
    for baseline in baselines:
        subject = baseline.subject
        control = TargetKey(subject.beside, subject.device, "")
        if subject.cohort and subject.cohort == phase and control in keys:
            found[subject.key] = control
    return found


def with_a_past(baselines: Sequence[Baseline], paired: Mapping[TargetKey, TargetKey]) -> list[Baseline]:
    """`baselines`, where a canary that is too young to have a past of its own is given the one of its control cohort."""
    out = []
    for baseline in baselines:
        control = paired.get(baseline.subject.key)
        other = next((one for one in baselines if one.subject.key == control and same_spacing(one.spacing, baseline.spacing)), None)
        out.append(replace(baseline, signals=tuple(_lent(row, other) for row in baseline.signals)) if other else baseline)
    return out


def _lent(row: Before, other: Baseline) -> Before:
    if row.fit:
        return row
    lent = next((there for there in other.signals if there.signal == row.signal and there.fit), None)
    return replace(lent, note=f"judged by the past of {other.subject.name}, as its own is too short") if lent else row


def stands_out(canary: Watched, control: Watched) -> bool:
    """Whether the canary's newest readings are worse than those of its control cohort, each measured by its own past."""
    if isinstance(canary.fit, LatencyFit) and isinstance(control.fit, LatencyFit):
        return _slower(canary, canary.fit, control, control.fit)
    if isinstance(canary.fit, SuccessFit):
        return _fails_more(canary, control)
    return True


def _slower(canary: Watched, fit: LatencyFit, control: Watched, other: LatencyFit) -> bool:
    """The median, or the slow tail, rose by a factor that the other cohort's did not."""
    here, there = sorted(canary.newest()[-GATED:]), sorted(control.newest()[-GATED:])
    if len(there) < _LEAST or not here:
        return True
    body = quantile(here, 0.5) / fit.p50 >= BODY_GATE * quantile(there, 0.5) / other.p50
    return body or quantile(here, 0.9) / fit.p95 >= TAIL_BURST * quantile(there, 0.9) / other.p95


def _fails_more(canary: Watched, control: Watched) -> bool:
    """Half a failure is put to the control cohort: none in two runs is no proof of none."""
    here, there = canary.newest()[-GATED:], control.newest()[-GATED:]
    failed = sum(1 for reading in there if reading < 0.5)
    share = sum(1 for reading in here if reading < 0.5) / max(len(here), 1)
    return share >= TIMES * (failed + 0.5) / (len(there) + 1)
