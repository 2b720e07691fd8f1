"""Is a past one past? A target that became twice as fast, or as slow, some while ago is compared with what it is today."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from monitor.judge.distributions import quantile

NEWEST = 60                       # readings that are held against the rest
LEAST = 40                        # readings that the newest part must have
NOTED = 1.25                      # a shift of the median by this factor, either way, is said
CUT = 2.0                         # by this one, only what came after it is "before"
SURE = 4.0                        # standard errors of the rank sum: less may be chance
_REPEATS = 2                      # shifts one after the other


def shift(readings: Sequence[float]) -> float | None:
    """By which factor the median of the NEWEST readings differs from that of the rest; None when it may be chance."""
    rest = len(readings) - NEWEST
    if rest < LEAST:
        return None
    before, now = quantile(sorted(readings[:rest]), 0.5), quantile(sorted(readings[rest:]), 0.5)
    if before <= 0 or now <= 0 or 1 / NOTED < now / before < NOTED:
        return None
    return now / before if abs(_rank_sum(_ranks(readings), rest)) > SURE else None


def stable_from(readings: Sequence[float]) -> int:
    """Where the newest part begins that is one past: 0 unless the median shifted by the factor CUT or more.

    Of all places the one with the largest rank sum (Pettitt 1979), LEAST readings before the end at the latest. A smaller
    shift leaves the past whole: on real histories most of those go back again, and an alarm would follow.
    """
    begin = 0
    for _ in range(_REPEATS):
        part = readings[begin:]
        by = shift(part)
        if by is None or 1 / CUT < by < CUT:
            break
        ranks = _ranks(part)
        sums = _rank_sums(ranks)
        begin += max(range(20, len(part) - LEAST + 1), key=lambda place: abs(sums[place]))
    return begin


def _ranks(readings: Sequence[float]) -> list[float]:
    """Mid-ranks, from 1."""
    ordered = sorted(readings)
    return [(bisect_left(ordered, reading) + bisect_right(ordered, reading) + 1) / 2 for reading in readings]


def _rank_sum(ranks: Sequence[float], place: int) -> float:
    """z of the rank sum of what comes from `place` on, against what comes before it (Wilcoxon)."""
    return _rank_sums(ranks)[place]


def _rank_sums(ranks: Sequence[float]) -> list[float]:
    """z of the rank sum from each place on."""
    count, total = len(ranks), 0.0
    sums = [0.0] * count
    for place in range(count - 1, 0, -1):
        total += ranks[place] - (count + 1) / 2
        sums[place] = total / math.sqrt((count - place) * place * (count + 1) / 12)
    return sums
