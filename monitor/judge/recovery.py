"""Is a target as it was before the update? Asked after a rollback, and to close an alarm as "recovered by itself"."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from monitor.judge.baseline import Baseline
from monitor.judge.distributions import quantile, wilson
from monitor.judge.evidence import Fit
from monitor.judge.latency import BODY_GATE, TAIL_BURST, LatencyFit
from monitor.judge.signals import Reading, Run, is_main, same_spacing
from monitor.judge.success import SuccessFit

MARGIN = 1.10                     # slower by less than this is as before
_RUNS = 10                        # newest runs that success is read from, and least durations
_DURATIONS = 20                   # newest durations compared; with so many "no difference seen" counts too
_SURE = 1.645                     # z of a one-sided test at 5 %
_ALIKE = 1.0                      # z up to which nothing speaks for slower
_TAIL_SHARE = 0.08                # of slow runs, beyond the usual ones: a tail that got worse
GONE = math.log(10_000)           # nats for "as before" that end a regression


def back_to_normal(baseline: Baseline, runs: Sequence[Run]) -> tuple[bool, str]:
    """(whether the newest runs are like the baseline, why), by the target's success and its main duration.

    `runs` are those since the rollback, or since the alarm; 10 of them are enough when they are clearly normal. A
    target that has become faster is normal too. What the baseline could not judge is not asked for.
    """
    kept = sorted((run for run in runs if same_spacing(run.spacing, baseline.spacing)), key=lambda run: run.at)
    reasons = []
    for before in baseline.signals:
        if not is_main(before.signal):
            continue
        readings = [reading for run in kept if (reading := before.read(run)) is not None]
        if isinstance(before.fit, SuccessFit):
            normal, why = _succeeds(before.fit, readings)
        elif isinstance(before.fit, LatencyFit):
            normal, why = _is_as_fast(before.fit, readings)
        else:
            continue
        if not normal:
            return False, why
        reasons.append(why)
    return bool(reasons), "; ".join(reasons) or "no baseline to compare with"


def harm_is_gone(baseline: Baseline, runs: Sequence[Run], harm: Mapping[str, Any]) -> bool:
    """Whether `runs`, those since the rollback or the alarm, speak for the past and against the harm that was found.

    `harm` is the guilty signal's line of the ruling (SignalRuling as a dict). Looked at after every run: a CUSUM of the log
    likelihood ratio, the past against the harm at its least, so that a shop still as bad is called normal once in
    e^GONE runs (Lorden's bound; Page 1954). What came before the rollback took effect costs nothing: the sum stays above 0.
    """
    before = next((row for row in baseline.signals if row.signal.name == harm["signal"] and row.fit), None)
    if before is None or before.fit is None:
        return True
    readings = [reading for run in runs if (reading := before.read(run)) is not None]
    if isinstance(before.fit, SuccessFit):
        bad, usual, worse = [reading < 0.5 for reading in readings], *_failing(baseline, before.fit, harm)
        temper = 1.0
    elif isinstance(before.fit, LatencyFit):
        limit, usual, worse = _slow(baseline, before.fit, harm)
        bad, temper = [reading > limit for reading in readings], before.fit.temper
    else:
        return _is_calm(before.fit, readings)
    return _cusum(bad, usual, worse, temper) >= GONE


def _is_calm(fit: Fit, readings: Sequence[Reading]) -> bool:
    """For counts, ratios, new signatures and silence: the newest runs are like the past. There is no CUSUM of those yet."""
    evidence = fit.start(len(readings))
    for reading in readings:
        evidence.add(reading)
    return evidence.calm()


def _failing(baseline: Baseline, fit: SuccessFit, harm: Mapping[str, Any]) -> tuple[float, float]:
    """Share of failed runs: usual, and with the harm at its least (the margin, or what the runs after prove)."""
    usual = max((fit.failures + 0.5) / (fit.count + 1), 0.002)
    proven = wilson(harm["failed_after"] or 0, harm["n_after"], _SURE)[0] if harm["n_after"] else 0.0
    return usual, min(max(usual + baseline.subject.margin.success, proven), 0.99)


def _slow(baseline: Baseline, fit: LatencyFit, harm: Mapping[str, Any]) -> tuple[float, float, float]:
    """A duration in s between usual and slowed, and the share of runs above it: usual, and with the harm at its least."""
    found = harm["ratio"] or (harm["after"] or fit.p50) / fit.p50      # too few runs have medians, and no interval
    if found < BODY_GATE:                                         # only the slow tail was worse
        limit = fit.p95 * TAIL_BURST
        usual = max(_above(fit, limit), 0.005)
        return limit, usual, usual + _TAIL_SHARE
    # An alarm after a few runs proves little of the size, so half of the harm (as a logarithm) stands for it.
    ratio = max(1 + baseline.subject.margin.p50, harm["ratio_lower"] or 1.0, math.sqrt(found))
    limit = fit.p50 * math.sqrt(ratio)
    shares = _above(fit, limit), _above(fit, limit / ratio)
    return limit, min(max(shares[0], 0.02), 0.9), min(max(shares[1], shares[0] + 0.05), 0.98)


def _above(fit: LatencyFit, seconds: float) -> float:
    """Share of the past that took longer."""
    return fit.above(seconds) / (2 * fit.count)


def _cusum(bad: Sequence[bool], usual: float, worse: float, temper: float) -> float:
    """Nats for "as before", from the best beginning on; `usual` and `worse` are the shares of bad runs."""
    good, ill = math.log((1 - usual) / (1 - worse)) * temper, math.log(usual / worse) * temper
    total = 0.0
    for is_bad in bad:
        total = max(0.0, total + (ill if is_bad else good))
    return total


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
