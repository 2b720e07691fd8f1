"""How far durations wander by themselves: no two days of a shop are the same, and an update is not blamed for that.

The time of day (season.py) takes away what comes back every day. What is left is measured on the same history: how much slower
a stretch of two hours was than the runs before it, as often as that may happen by chance alone, and oftener.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from monitor.judge.distributions import quantile

AHEAD = 7200.0                    # s; as long as an update is observed at most
LEAST_SPAN = 6.9 * 86_400.0       # s of history, without which it is not known
LEAST_STRETCHES = 40
LEAST_POINTS = 10                 # runs of a stretch, on either side: fewer make no median to go by
OFTEN = 0.90                      # nine stretches of ten are below: outages nobody noticed are the tenth
BY_CHANCE = 1.5                   # standard errors of that quantile when nothing wanders; 1.28, and a little for neighbours that are alike
MOST = 1.6                        # a tolerance beyond which little would ever be found


def wander(told: Iterable[tuple[float, float]], back: float) -> float:
    """By which factor two hours are slower than the `back` s before them, once in ten times and beyond chance; 1 when they are not.

    `told` are (Unix s, duration in s without the level of its time of day), in any order; what is no positive number is left out.
    """
    points = sorted((at, math.log(took)) for at, took in told if math.isfinite(at) and 0 < took < math.inf)
    if not points or points[-1][0] - points[0][0] < LEAST_SPAN:
        return 1.0
    shifts, errors = _stretches([at for at, _ in points], [value for _, value in points], back)
    if len(shifts) < LEAST_STRETCHES:
        return 1.0
    far = quantile(sorted(shifts), OFTEN)
    beyond = far * far - BY_CHANCE ** 2 * sum(errors) / len(errors)
    return min(math.exp(math.sqrt(beyond)), MOST) if far > 0 and beyond > 0 else 1.0


def _stretches(times: Sequence[float], values: Sequence[float], back: float) -> tuple[list[float], list[float]]:
    """By how much the median of each stretch exceeds that of the time before it, and the variance of that if nothing changed."""
    shifts, errors, begin, step = [], [], times[0] + back, AHEAD / 2
    while begin + AHEAD <= times[-1]:
        earlier, first, last = (bisect_left(times, at) for at in (begin - back, begin, begin + AHEAD))
        if first - earlier >= LEAST_POINTS and last - first >= LEAST_POINTS:
            before, after = sorted(values[earlier:first]), sorted(values[first:last])
            shifts.append(quantile(after, 0.5) - quantile(before, 0.5))
            errors.append(_variance(before) + _variance(after))
        empty = (times[first] - AHEAD - begin) // step if first == last else 0.0      # as far as there is nothing to look at
        begin += step * max(1.0, empty)
    return shifts, errors


def _variance(ordered: Sequence[float]) -> float:
    """Of the median of so many independent values, by their middle half, which is 1.349 standard deviations of a normal one wide."""
    spread = (quantile(ordered, 0.75) - quantile(ordered, 0.25)) / 1.349
    return math.pi / 2 * spread * spread / len(ordered)
