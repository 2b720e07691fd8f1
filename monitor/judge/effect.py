"""How large a change is: after / before, with bounds that may be looked at after every sample."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from monitor.judge.counts import CountFit
from monitor.judge.distributions import quantile, wilson
from monitor.judge.latency import LatencyFit
from monitor.judge.ratios import RatioFit

BOUND = 2.7                       # standard errors: 95 % for all looks at 5 to 60 samples together (1.96: for one look)
_NEWEST = 120                     # samples compared: the bounds hardly move with more, the time does
_WIDEST = math.log(64)            # the ratio is sought between 1/64 and 64
_HALVINGS = 14                    # to 0.05 %

Change = tuple[float, float, float]    # lower bound, estimate, upper bound of after / before


def success_change(failed_before: int, before: int, failed_after: int, after: int) -> Change | None:
    """Ratio of the shares of successful runs: Wilson's intervals, combined in logarithms (MOVER, Donner and Zou)."""
    if not before or not after:
        return None
    low_after, high_after = wilson(after - failed_after, after, BOUND)
    low_before, high_before = wilson(before - failed_before, before, BOUND)
    share_after = max(1 - failed_after / after, 0.5 / (after + 1))
    share_before = max(1 - failed_before / before, 0.5 / (before + 1))
    ratio = share_after / share_before
    low_after, low_before = max(low_after, 1e-6), max(low_before, 1e-6)
    down = math.hypot(math.log(max(share_after / low_after, 1.0)), math.log(max(high_before / share_before, 1.0)))
    up = math.hypot(math.log(max(high_after / share_after, 1.0)), math.log(max(share_before / low_before, 1.0)))
    return ratio * math.exp(-down), ratio, ratio * math.exp(up)


def count_change(fit: CountFit, after: Sequence[float]) -> Change | None:
    """Ratio of the means. The errors of their logarithms are those of the larger of both spreads: the past's at that
    mean, and what `after` itself shows; neighbours that are alike make them wider."""
    count, total = len(after), sum(after)
    if not count:
        return None
    mean, usual = (total + 0.5) / count, fit.mean + 0.5 / fit.count
    seen = sum((events - total / count) ** 2 for events in after) / max(count - 1, 1)
    square = max(fit.variance(mean), seen) / (mean * mean * count) + fit.variance(usual) / (usual * usual * fit.count)
    return _around(mean / usual, BOUND * math.sqrt(square / fit.temper))


def ratio_change(fit: RatioFit, events: float, tries: float, runs: int, *, fewer: bool) -> Change | None:
    """Ratio of the shares with over-dispersed errors; with `fewer`, of the shares of the tries without the event."""
    if not tries:
        return None
    before, after = (fit.events + 0.5) / (fit.tries + 1), (events + 0.5) / (tries + 1)
    if fewer:
        before, after = 1 - before, 1 - after
    square = sum(
        (1 - share) / share * (1 + max(n / m - 1, 0) * fit.rho) / n
        for share, n, m in ((before, fit.tries, fit.count), (after, tries, runs))
    )
    return _around(after / before, BOUND * math.sqrt(square / fit.temper))


def _around(ratio: float, error: float) -> Change:
    by = math.exp(min(error, _WIDEST))
    return ratio / by, ratio, ratio * by


def latency_change(fit: LatencyFit, after: Sequence[float]) -> Change | None:
    """Hodges and Lehmann's ratio: the factor which, taken out of `after`, leaves it as often above as below the past.

    Its bounds take out so much that the rank sum is just BOUND standard errors away, autocorrelation included.
    """
    newest = after[-_NEWEST:]
    pairs = fit.count * len(newest)
    if len(newest) < 5:
        return None
    error = BOUND * math.sqrt(pairs * (fit.count + len(newest) + 1) / 12 / fit.temper)
    lower, middle, upper = (_factor(fit, newest, pairs / 2 + way * error) for way in (1, 0, -1))
    return lower, middle, upper


def _factor(fit: LatencyFit, after: Sequence[float], wanted: float) -> float:
    """The factor out of `after` at which it lies above `wanted` of the pairs with the reference."""
    low, high = -_WIDEST, _WIDEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        by = math.exp(-middle)
        below = sum(bisect_left(fit.reference, x * by) + bisect_right(fit.reference, x * by) for x in after) / 2
        low, high = (middle, high) if below > wanted else (low, middle)
    return math.exp((low + high) / 2)


def percentiles(readings: Sequence[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    ordered = sorted(readings)
    return quantile(ordered, 0.5), quantile(ordered, 0.95)
