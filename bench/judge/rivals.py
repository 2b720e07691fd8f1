"""What others judge an update by, written from their papers and sources, behind the same `detect(baseline, stream)`.

Every function takes the history before the update, rows (t, ok, ms), oldest first, and the rows after it one by one, and
returns the index of the row at which it alarms, or None. Settings are those that each one ships with.
"""

import math
from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import NormalDist

import numpy as np
from scipy import stats

History = np.ndarray              # rows (t in Unix s, ok, ms)
Row = np.ndarray
Detector = Callable[[History, Iterable[Row]], int | None]

NEWEST = 400                      # newest runs of a baseline, as many as our own judge takes
KAYENTA_CONFIDENCE, KAYENTA_TOLERANCE = 0.98, 0.25
BURN_RATE, OBJECTIVE = 14.4, 0.99     # 2 % of a month's error budget in an hour (Site Reliability Workbook, chapter 5)
WINDOW_PVALUE, LEAST_MAGNITUDE, OTAVA_WINDOW = 0.001, 0.05, 50


def timed(history: History) -> np.ndarray:
    """Durations (ms) of the runs that were ok."""
    return history[history[:, 1] > 0, 2]


# Rules of thumb


def in_a_row(bad: Iterator[bool], count: int) -> int | None:
    """Index at which so many in a row were bad."""
    length = 0
    for index, is_bad in enumerate(bad):
        length = length + 1 if is_bad else 0
        if length == count:
            return index
    return None


def two_failures(_baseline: History, stream: Iterable[Row]) -> int | None:
    """What a status monitor does: two failed runs in a row."""
    return in_a_row((not ok for _, ok, _ in stream), 2)


def twice_the_median(baseline: History, stream: Iterable[Row]) -> int | None:
    """A fixed threshold: three runs in a row failed, or took more than twice the median."""
    usual = timed(baseline)
    limit = 2 * float(np.median(usual)) if len(usual) else math.inf
    return in_a_row((not ok or ms > limit for _, ok, ms in stream), 3)


def three_sigma(count: int) -> Detector:
    """So many runs in a row failed, or were more than three standard deviations above the mean."""
    def detect(baseline: History, stream: Iterable[Row]) -> int | None:
        usual = timed(baseline)[-NEWEST:]
        limit = float(usual.mean() + 3 * usual.std()) if len(usual) > 5 else math.inf
        return in_a_row((not ok or ms > limit for _, ok, ms in stream), count)
    return detect


def burn_rate(baseline: History, stream: Iterable[Row]) -> int | None:
    """Multi-window burn rate: of the last 60 and of the last 5 runs more than 14.4 times the allowed 1 % failed."""
    failed = deque((1 - baseline[-60:, 1]).tolist(), maxlen=60)
    limit = BURN_RATE * (1 - OBJECTIVE)
    for index, (_, ok, _) in enumerate(stream):
        failed.append(1 - ok)
        if sum(failed) / len(failed) > limit and sum(list(failed)[-5:]) / 5 > limit:
            return index
    return None


# Kayenta


def kayenta_high(control: np.ndarray, experiment: np.ndarray) -> bool:
    """Kayenta's MannWhitneyClassifier says "High".

    That is when the lower end of the 98 % interval of Hodges and Lehmann's shift is above 0.25 times the shift itself, and the
    mean did not fall. The interval is that of R's wilcox.test: order statistics of all differences, at
    n1 n2 / 2 - z s, s² = n1 n2 / 12 (N + 1 - sum(t³ - t) / (N (N - 1))) with t the sizes of ties.
    """
    ties = np.unique(np.concatenate([control, experiment]), return_counts=True)[1]
    if len(ties) < 2:
        return False
    total, pairs = len(control) + len(experiment), len(control) * len(experiment)
    deviation = math.sqrt(pairs / 12 * (total + 1 - float((ties ** 3 - ties).sum()) / (total * (total - 1))))
    z = NormalDist().inv_cdf(1 - (1 - KAYENTA_CONFIDENCE) / 2)
    differences = np.sort(np.subtract.outer(experiment, control), axis=None)
    lower = differences[min(max(math.floor(pairs / 2 - z * deviation), 0), pairs - 1)]
    return bool(lower > KAYENTA_TOLERANCE * abs(np.median(differences)) and experiment.mean() >= control.mean())


def failed_shares(history: History) -> np.ndarray:
    """Share of failed runs in every five, as a metric in time would have it."""
    whole = len(history) // 5 * 5
    return 1 - history[:whole, 1].reshape(-1, 5).mean(axis=1)


def kayenta_worse(control: History, experiment: History) -> bool:
    """Either metric is "High": durations, or the share of failed runs."""
    old, new = timed(control), timed(experiment)
    if len(old) >= 10 and len(new) >= 5 and kayenta_high(old, new):
        return True
    return kayenta_high(failed_shares(control), failed_shares(experiment))


def kayenta(looks: Iterable[int], before: int) -> Detector:
    """Kayenta after so many samples, against the newest `before` of the baseline."""
    at = frozenset(looks)

    def detect(baseline: History, stream: Iterable[Row]) -> int | None:
        seen: list[Row] = []
        for index, row in enumerate(stream):
            seen.append(row)
            if len(seen) in at and kayenta_worse(baseline[-before:], np.array(seen)):
                return index
        return None
    return detect


# Change points


def e_divisive(baseline: History, stream: Iterable[Row]) -> int | None:
    """Apache Otava (Hunter; Matteson and James 2014), the defaults of its command line, run again every five samples.

    It alarms at a change for the worse that is not older than the update, in durations or in failures.
    """
    from otava.analysis import compute_change_points

    past = baseline[-100:]
    seen: list[Row] = []
    for index, row in enumerate(stream):
        seen.append(row)
        if len(seen) % 5:
            continue
        whole = np.vstack([past, np.array(seen)])
        usual = timed(whole)
        times = np.where(whole[:, 1] > 0, whole[:, 2], np.median(usual) if len(usual) else 0.0)
        for series in (times, 1.01 - whole[:, 1]):                # it cannot read a 0
            if np.ptp(series) == 0:
                continue
            points, _ = compute_change_points(
                [float(value) for value in series], window_len=OTAVA_WINDOW, max_pvalue=WINDOW_PVALUE, min_magnitude=LEAST_MAGNITUDE)
            if any(point.index >= len(past) - 2 and point.stats.mean_2 > point.stats.mean_1 for point in points):
                return index
    return None


# Sequential tests


def band(samples: int, alpha: float) -> float:
    """Half width of a time-uniform band around the distribution of so many samples (Howard and Ramdas 2022, Theorem 2)."""
    return 0.85 * math.sqrt((math.log(math.log(math.e * samples)) + 0.8 * math.log(1612 / alpha)) / samples)


class Stochastically:
    """Are the new durations stochastically longer? Alarm when the bands around both distributions part (Lindon, Sanden, Shirikian 2022)."""

    def __init__(self, baseline: History, alpha: float) -> None:
        self._old = np.sort(timed(baseline)[-NEWEST:])
        self._new: list[float] = []
        self._alpha = alpha / 2
        # The baseline is looked at once: Dvoretzky, Kiefer, Wolfowitz with Massart's constant.
        self._fixed = math.sqrt(math.log(2 / self._alpha) / (2 * len(self._old))) if len(self._old) else math.inf

    def longer(self, ms: float) -> bool:
        """One more duration."""
        insort(self._new, ms)
        count = len(self._new)
        if count < 3 or len(self._old) < 20:
            return False
        gaps = np.searchsorted(self._old, np.array(self._new), "left") / len(self._old) - np.arange(count) / count
        return bool(gaps.max() > self._fixed + band(count, self._alpha))


class Failing:
    """Do more runs fail? Robbins' mixture of likelihood ratios over all rates above an upper bound of the baseline's."""

    def __init__(self, baseline: History, alpha: float) -> None:
        newest = baseline[-NEWEST:, 1]
        failures = float((1 - newest).sum())
        bound = float(stats.beta.ppf(1 - alpha / 2, failures + 1, len(newest) - failures + 0.0001))     # Clopper and Pearson
        self._base = min(max(bound, 0.002), 0.99)
        self._need = math.log(2 / alpha)
        self._runs = self._failed = 0

    def more(self, failed: bool) -> bool:
        """One more outcome."""
        self._runs += 1
        self._failed += failed
        k, n, p = self._failed, self._runs, self._base
        if not k:
            return False
        beta = math.lgamma(k + 1) + math.lgamma(n - k + 1) - math.lgamma(n + 2)
        above = float(stats.beta.logsf(p, k + 1, n - k + 1)) - math.log(1 - p)
        return beta + above - k * math.log(p) - (n - k) * math.log(1 - p) > self._need


def sequential(alpha: float) -> Detector:
    """The published sequential canary test, its error split between durations and failures."""
    def detect(baseline: History, stream: Iterable[Row]) -> int | None:
        durations, failures = Stochastically(baseline, alpha / 2), Failing(baseline, alpha / 2)
        for index, (_, ok, ms) in enumerate(stream):
            longer = bool(ok) and durations.longer(float(ms))
            if failures.more(not ok) or longer:
                return index
        return None
    return detect


@dataclass(frozen=True, slots=True)
class Rival:
    """One of them; `needs`: a package that has to be there."""

    name: str
    detect: Detector
    needs: str = ""

    @property
    def can_run(self) -> bool:
        """Whether its package is installed."""
        return not self.needs or find_spec(self.needs) is not None


RIVALS = (
    Rival("2 failures in a row", two_failures),
    Rival("3 in a row failed or > 2 × median", twice_the_median),
    Rival("3-sigma, single run", three_sigma(1)),
    Rival("3-sigma, 3 in a row", three_sigma(3)),
    Rival("burn rate 14.4, 5 and 60 runs", burn_rate),
    Rival("Kayenta, one look at 30", kayenta([30], 120)),
    Rival("Kayenta, one look at 60", kayenta([60], 240)),
    Rival("Kayenta, every 5 from 10", kayenta(range(10, 61, 5), 120)),
    Rival("E-divisive (Otava), every 5", e_divisive, needs="otava"),
    Rival("sequential bands, 1 %", sequential(0.01)),
)
