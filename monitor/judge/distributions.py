"""The few numbers of probability theory that the tests need, in plain floats."""

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import NormalDist

_NORMAL = NormalDist()
_Z80 = 0.8416                     # 80 % quantile of the normal distribution


def quantile(ordered: Sequence[float], share: float) -> float:
    """The `share` quantile of an ascending sequence, linear between its neighbours (numpy's default)."""
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def chi_square_80(freedom: int) -> float:
    """80 % quantile of chi-square, by Wilson and Hilferty's cube; within 0.5 % from 3 degrees of freedom on."""
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + _Z80 * math.sqrt(spread)) ** 3


@lru_cache(maxsize=64)
def normal_scores(count: int) -> tuple[float, ...]:
    """Normal score of the mid-rank r among `count` values, at index 2r; ranks from 1, halves for ties."""
    low = 0.25 / count
    return tuple(_NORMAL.inv_cdf(min(max((half / 2 - 0.5) / count, low), 1 - low)) for half in range(2 * count + 1))


def log_negative_binomial_tail(least: int, shape: float, exposure: float, ahead: float) -> float:
    """ln P(K >= least), K the events in `ahead` samples when their rate has the posterior Gamma(shape, exposure).

    That K is negative binomial with success probability exposure / (exposure + ahead). Summed from `least` upwards, so
    that a small tail does not drown in 1 - sum.
    """
    stay = exposure / (exposure + ahead)
    go = 1 - stay
    start = math.lgamma(least + shape) - math.lgamma(shape) - math.lgamma(least + 1)
    total = term = 1.0
    count = least
    while term > 1e-12 * total:
        term *= (count + shape) / (count + 1) * go
        total += term
        count += 1
    return min(start + shape * math.log(stay) + least * math.log(go) + math.log(total), 0.0)


def wilson(hits: int, count: int, z: float) -> tuple[float, float]:
    """Wilson's interval for a share, `z` standard errors wide on each side."""
    if not count:
        return 0.0, 1.0
    share, square = hits / count, z * z
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = z / (1 + square / count) * math.sqrt(share * (1 - share) / count + square / (4 * count * count))
    return max(middle - half, 0.0), min(middle + half, 1.0)
