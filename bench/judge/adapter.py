"""`detect(baseline, stream)`: our judge behind the signature of the open harness, one target with both of its signals.

baseline: rows (t, ok, ms), oldest first, all that is known before the update; stream: the rows after it, one by one.
Lists, tuples and numpy arrays will do. Returns the index of the sample at which it alarms, or None; a history that is
too short, empty or full of holes raises nothing: what cannot be judged does not alarm.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from math import isfinite, isnan
from typing import Any

from monitor.judge.baseline import WORTH_READING, Baseline, freeze
from monitor.judge.season import thinned
from monitor.judge.signals import Margin, Run, Subject
from monitor.judge.verdict import Case, Judging
from probes.sample import Signal

Row = Sequence[float]             # t (Unix s), ok (0 or 1), ms
Detector = Callable[[Any, Iterable[Row]], int | None]
KEY = ("site", "", "")
SUBJECT = Subject(*KEY, kind="http", critical=True, control=False, margin=Margin(),
                  signals=(Signal("success", "bernoulli"), Signal("duration", "latency")))
SPACING = 1.0                     # the histories have none that is kept to; one for all
LOOK_BACK = Judging().baseline    # s
HORIZON = 60                      # samples for which an update is watched


def run_of(row: Row) -> Run | None:
    """A row of a history as the judge reads it; None when it does not say whether the run was ok."""
    at, ok, ms = row
    return None if isnan(ok) else Run(float(at), bool(ok > 0), float(ms) / 1000, SPACING)


@lru_cache(maxsize=64)
def _frozen(rows: tuple[tuple[float, ...], ...], horizon: int) -> Baseline:
    """One cut is asked for once per scenario. The time of day is learnt from the look-back, as monitor/before.py does."""
    runs = [run for row in rows if (run := run_of(row))]
    since = max((run.at for run in runs if isfinite(run.at)), default=0.0) - LOOK_BACK
    history = thinned((run for run in runs if run.at >= since), LOOK_BACK)
    return freeze(SUBJECT, runs[-WORTH_READING:], spacing=SPACING, horizon=horizon, history=history)


def before(baseline: Iterable[Row], *, horizon: int = 0) -> Baseline:
    """The frozen baseline of a history. Alarms need no power; with a `horizon` it is measured, and a PASS can be had."""
    rows: Iterable[Row] = baseline.tolist() if hasattr(baseline, "tolist") else baseline
    return _frozen(tuple(tuple(row) for row in rows), horizon)


def detector(settings: Judging) -> Detector:
    """`detect` under these settings of [update]."""
    def detect(baseline: Iterable[Row], stream: Iterable[Row]) -> int | None:
        """Index of the first alarm."""
        case = Case([before(baseline)], settings, watch=HORIZON * SPACING)
        for index, row in enumerate(stream):
            if run := run_of(row):
                case.add(KEY, run, warm=False)
            if case.alarm is not None:
                return index
        return None
    return detect


detect = detector(Judging())
