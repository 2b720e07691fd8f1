"""Made-up logs and shops for the tests of counts, ratios, novelty and silence: seeded, with a known truth."""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

from judge_runs import SPACING, START, first_alarm, frozen, subject

from monitor.judge.baseline import Baseline
from monitor.judge.evidence import Evidence, Fit, learn, strength
from monitor.judge.signals import Run, read
from monitor.judge.verdict import Case, Judging
from probes.sample import Signal

SUCCESS = Signal("success", "bernoulli")
NOT_A_NUMBER = (math.nan, math.inf, -math.inf, -1.0, -1e300)


def poisson(rng: random.Random, mean: float) -> int:
    """One draw; by halves when the mean is large."""
    if mean > 30:
        return poisson(rng, mean / 2) + poisson(rng, mean / 2)
    limit, count, product = math.exp(-mean), 0, rng.random()
    while product > limit:
        count, product = count + 1, product * rng.random()
    return count


def clustered(count: int, mean: float, shape: float, seed: int) -> list[int]:
    """Negative binomial: Poisson whose mean is drawn anew for each run."""
    rng = random.Random(seed)
    return [poisson(rng, rng.gammavariate(shape, mean / shape)) for _ in range(count)]


def first_over(evidence: Evidence, readings: Sequence[object], need: float = 0.0) -> int | None:
    """Readings until a lone signal alarms, counted from 1."""
    for count, reading in enumerate(readings, 1):
        evidence.add(reading)
        if strength(evidence, 1.0) >= need:
            return count
    return None


def runs_with(counts: Sequence[dict[str, int]], at: float = 0.0) -> list[Run]:
    """Runs that were ok and counted this."""
    return [Run(START + at + place * SPACING, True, 0.01, SPACING, counts=one) for place, one in enumerate(counts)]


def judged(signal: Signal, before: Sequence[dict[str, int]], after: Sequence[dict[str, int]]) -> tuple[int | None, Case]:
    """A shop whose only probe counts: when it alarms (None: never), and its case. The baseline went through the store."""
    target = subject("app-errors", kind="error_log", signals=(SUCCESS, signal))
    baseline = learned(frozen(runs_with(before), target), before)
    again = type(baseline).from_dict(json.loads(json.dumps(baseline.to_dict(), allow_nan=False)))
    assert again == baseline
    case = Case([again], Judging(), watch=60 * SPACING)
    return first_alarm(case, runs_with(after, len(before) * SPACING), target.key), case


def learned(baseline: Baseline, before: Sequence[dict[str, int]]) -> Baseline:
    """With every signal fitted as it was declared: which way is harm."""
    rows = []
    for row in baseline.signals:
        readings = [reading for run in runs_with(before)[-400:] if (reading := read(row.signal, run)) is not None]
        rows.append(replace(row, fit=learn(row.signal, readings)))
    return replace(baseline, signals=tuple(rows))


def guilty_line(case: Case):
    """The line of the ruling that is to blame."""
    return next(row for row in case.ruling(final=False).signals if row.guilty)


def stands(fit: Fit | None, readings: Sequence[object]) -> None:
    """Whatever comes, the numbers stay numbers, the fit survives the store, and asking never fails."""
    if fit is None:
        return
    stored = json.dumps(fit.to_dict(), allow_nan=False)
    again = type(fit).from_dict(json.loads(stored))
    assert again == fit
    evidence, replayed = fit.start(60), again.start(60)
    for reading in readings:
        evidence.add(reading)
        replayed.add(reading)
        assert math.isfinite(math.log(evidence.bet()))
        assert math.isfinite(math.log(evidence.gated_bet()))
        assert math.isfinite(evidence.reach())
        assert not math.isnan(evidence.counted())
        assert evidence.bet() == replayed.bet()
        evidence.calm()
        evidence.unsettled()


def alarms(trials: int, one: Callable[[int], int | None]) -> int:
    """In how many of the trials it alarmed."""
    return sum(one(seed) is not None for seed in range(trials))
