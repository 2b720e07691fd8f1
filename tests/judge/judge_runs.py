"""Made-up shops for the judge's tests: seeded runs with a known truth."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

from monitor.judge.baseline import Baseline, freeze
from monitor.judge.signals import Margin, Run, Subject, TargetKey
from monitor.judge.verdict import Case, Judging
from probes.sample import Signal

SUCCESS, DURATION = Signal("success", "bernoulli"), Signal("duration", "latency")
SPACING = 30.0
START = 1_700_000_000.0


def subject(name="home", *, kind="http", critical=True, control=False, margin=None, signals=(SUCCESS, DURATION)) -> Subject:
    return Subject(name, "", "", kind, critical, control, margin or Margin(), signals)


def series(count, seed=0, *, median=0.2, sigma=0.15, fails=0.0, memory=0.0, at=0.0, spacing=SPACING) -> list[Run]:
    """Log-normal durations (AR(1) with `memory`), independent failures."""
    rng = random.Random(seed)
    level, out = rng.gauss(0, 1), []
    for place in range(count):
        level = memory * level + (1 - memory ** 2) ** 0.5 * rng.gauss(0, 1)
        out.append(Run(START + at + place * spacing, rng.random() >= fails, median * 2.718281828 ** (sigma * level), spacing))
    return out


def before_and_after(count, watched, seed=0, **how) -> tuple[list[Run], list[Run]]:
    """One continuous series, cut at the update."""
    runs = series(count + watched, seed, **how)
    return runs[:count], runs[count:]


def slower(runs: Sequence[Run], factor: float) -> list[Run]:
    return [replace(run, seconds=run.seconds * factor) for run in runs]


def failing(runs: Sequence[Run], share: float, seed=0) -> list[Run]:
    rng = random.Random(seed)
    return [replace(run, ok=run.ok and rng.random() >= share) for run in runs]


def frozen(before: Sequence[Run], target: Subject | None = None, **how) -> Baseline:
    how.setdefault("spacing", SPACING)
    how.setdefault("horizon", 0)
    return freeze(target or subject(), before, **how)


def first_alarm(case: Case, runs: Sequence[Run], key=("home", "", "")) -> int | None:
    """Runs until the alarm, counted from 1."""
    for count, run in enumerate(runs, 1):
        case.add(key, run, warm=False)
        if case.alarm:
            return count
    return None


def alarm_after(before: Sequence[Run], after: Sequence[Run], target: Subject | None = None, watch=60 * SPACING) -> int | None:
    """The same, for a shop with one target."""
    target = target or subject()
    return first_alarm(Case([frozen(before, target)], Judging(), watch=watch), after, target.key)


def in_turn(shops: dict[TargetKey, Sequence[Run]]) -> Iterator[tuple[TargetKey, Run]]:
    """The runs of several targets in the order of time."""
    return iter(sorted(((key, run) for key, runs in shops.items() for run in runs), key=lambda pair: pair[1].at))
