"""Is a target as it was before the update? Asked after a rollback, and to close an alarm as "recovered by itself"."""

import math
from collections.abc import Sequence

from monitor.judge.baseline import Baseline
from monitor.judge.distributions import quantile, wilson
from monitor.judge.latency import BODY_GATE, LatencyFit
from monitor.judge.signals import Run, is_main_time, read, same_spacing
from monitor.judge.success import SuccessFit

MARGIN = 1.10                     # slower by less than this is as before
_RUNS = 10                        # newest runs that success is read from, and least durations
_DURATIONS = 20                   # newest durations compared; with so many "no difference seen" counts too
_SURE = 1.645                     # z of a one-sided test at 5 %
_ALIKE = 1.0                      # z up to which nothing speaks for slower


def back_to_normal(baseline: Baseline, runs: Sequence[Run]) -> tuple[bool, str]:
    """(whether the newest runs are like the baseline, why), by the target's success and its main duration.

    `runs` are those since the rollback, or since the alarm; 10 of them are enough when they are clearly normal. A
    target that has become faster is normal too. What the baseline could not judge is not asked for.
    """
    kept = sorted((run for run in runs if same_spacing(run.spacing, baseline.spacing)), key=lambda run: run.at)
    reasons = []
    for before in baseline.signals:
        readings = [reading for run in kept if (reading := read(before.signal, run)) is not None]
        if isinstance(before.fit, SuccessFit):
            normal, why = _succeeds(before.fit, readings)
        elif isinstance(before.fit, LatencyFit) and is_main_time(before.signal):
            normal, why = _is_as_fast(before.fit, readings)
        else:
            continue
        if not normal:
            return False, why
        reasons.append(why)
    return bool(reasons), "; ".join(reasons) or "no baseline to compare with"


def _succeeds(fit: SuccessFit, readings: Sequence[float]) -> tuple[bool, str]:
    """The newest runs fail no more often than the past can explain (Wilson, one standard error); the last is ok."""
    newest = readings[-_RUNS:]
    if len(newest) < _RUNS:
        return False, f"only {len(newest)} of {_RUNS} runs yet"
    failed = sum(1 for reading in newest if reading < 0.5)
    told = f"{failed} of the last {_RUNS} runs failed"
    return newest[-1] > 0.5 and failed / _RUNS <= wilson(fit.failures, fit.count, 1.0)[1], told


def _is_as_fast(fit: LatencyFit, readings: Sequence[float]) -> tuple[bool, str]:
    """Two one-sided rank sums (Schuirmann): not slower than MARGIN is shown, and whether it is even faster is told.

    Durations that vary much show nothing in 20 samples; then it is enough that no sign of slowness is left.
    """
    newest = list(readings[-_DURATIONS:])
    if len(newest) < _RUNS:
        return False, f"only {len(newest)} of {_RUNS} durations yet"
    ratio = quantile(sorted(newest), 0.5) / fit.p50 if fit.p50 else 1.0
    told = f"median {ratio:.2f} times the one before"
    if _slowness(fit, newest, MARGIN) <= -_SURE:
        faster = _slowness(fit, newest, 1 / MARGIN) < _SURE and ratio < 1
        return True, told + (", faster than before" if faster else "")
    calm = ratio < BODY_GATE and _slowness(fit, newest, fit.tolerance) <= _ALIKE
    return calm and len(newest) >= _DURATIONS, told


def _slowness(fit: LatencyFit, durations: Sequence[float], margin: float) -> float:
    """z of the rank sum of durations divided by `margin` among the past; positive when they are slower than that."""
    count = len(durations)
    total = sum(1 - (fit.above(seconds / margin) + 1) / (fit.count + 1) for seconds in durations)
    return total / math.sqrt(count / 3 * (1 + count / fit.count) / fit.temper)
