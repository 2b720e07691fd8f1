"""`detect(baseline, stream)`: our judge behind the signature of the open harness, one target with both of its signals.

baseline: rows (t, ok, ms), oldest first, all that is known before the update; stream: the rows after it, one by one.
Returns the index of the sample at which it alarms, or None.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache

from monitor.judge.baseline import WORTH_READING, Baseline, freeze
from monitor.judge.signals import Margin, Run, Subject
from monitor.judge.verdict import Case, Judging
from probes.sample import Signal

Row = Sequence[float]             # t (Unix s), ok (0 or 1), ms
KEY = ("site", "", "")
SUBJECT = Subject(*KEY, kind="http", critical=True, control=False, margin=Margin(),
                  signals=(Signal("success", "bernoulli"), Signal("duration", "latency")))
SPACING = 1.0                     # the histories have none that is kept to; one for all
_SETTINGS = Judging()


def run_of(row: Row) -> Run:
    """A row of a history as the judge reads it."""
    return Run(float(row[0]), row[1] > 0, float(row[2]) / 1000, SPACING)


@lru_cache(maxsize=4096)
def _frozen(rows: tuple[tuple[float, float, float], ...]) -> Baseline:
    """One cut is asked for once per scenario."""
    return freeze(SUBJECT, [run_of(row) for row in rows], spacing=SPACING)


def before(baseline: Iterable[Row]) -> Baseline:
    """The frozen baseline of a history."""
    return _frozen(tuple((float(t), float(ok), float(ms)) for t, ok, ms in baseline)[-WORTH_READING:])


def detect(baseline: Iterable[Row], stream: Iterable[Row]) -> int | None:
    """Index of the first alarm."""
    case = Case([before(baseline)], _SETTINGS, watch=60 * SPACING)
    for index, row in enumerate(stream):
        case.add(KEY, run_of(row), warm=False)
        if case.alarm is not None:
            return index
    return None
