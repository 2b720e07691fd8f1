"""What is usual at which time of day: a shop that is slower every noon is not worse because an update came before noon.

Durations are divided by the level of their moment before they are ranked, in the baseline and after the update. Times are
UTC, so a change of the clocks moves the profile by an hour until the past has followed.
"""

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any, Self

from monitor.judge.signals import Run

ENOUGH = 2000                     # runs, evenly over the past: more of them would show no more
DAY, WEEK = 86_400.0, 604_800.0
LEAST_DAYS = 7                    # that the history must span
LEAST_WEEKS = 3                   # the same, for a profile of the week
LEAST_EXPLAINED = 0.01            # of the variance of ranks, each day foretold from the others: noise explains less than nothing
CLEARLY_MORE = 0.05               # that a profile of the week must explain beyond that of the day
BINS = {DAY: 96, WEEK: 168}       # a quarter of an hour, an hour
LEAST_TIMES = 3                   # days (weeks) on which a bin must have been seen
LEAST_HOURS = 20 / 24             # share of the hours with such a bin
WIDTHS = (1, 2, 3, 5, 9)          # bins over which a profile may be smoothed, to either side
_POLISHES = 3                     # rounds of taking medians away by turns


def thinned(runs: Iterable[Run], span: float) -> list[Run]:
    """So many of these runs, evenly over their time and in its order, that ENOUGH of them last for `span` s."""
    slot, free = span / ENOUGH, -math.inf
    kept: list[Run] = []
    for run in sorted((run for run in runs if math.isfinite(run.at)), key=attrgetter("at")):
        if run.at >= free:
            kept.append(run)
            free = (run.at // slot + 1) * slot
    return kept


@dataclass(frozen=True, slots=True)
class Season:
    """By which factor durations are longer than on average, over one period: straight lines between knots, round and round."""

    period: float                 # s: a day, or a week (which begins on Thursday, as Unix time did)
    times: tuple[float, ...]      # s since the period began, of each knot, ascending
    levels: tuple[float, ...]     # its factor; 1 on average

    @classmethod
    def of(cls, times: Sequence[float], durations: Sequence[float]) -> Self | None:
        """From runs of the past (Unix s, s), in any order; None when they are too few, or the hour explains too little.

        What is not finite, or not positive, is left out. Takes about 0.1 s for 20,000 runs.
        """
        points = [(at, math.log(took)) for at, took in zip(times, durations, strict=True) if math.isfinite(at) and 0 < took < math.inf]
        span = max((at for at, _ in points), default=0.0) - min((at for at, _ in points), default=0.0)
        if span < LEAST_DAYS * DAY * 0.98:
            return None
        day = _Profile.of(points, DAY)
        if span >= LEAST_WEEKS * WEEK * 0.98 and (week := _Profile.of(points, WEEK)):
            ranks = _ranks(week.residuals)
            explained, width = _explained(ranks, week.cells, WEEK)
            if explained > max(CLEARLY_MORE + _explained(ranks, [_cell(at, DAY) for at, _ in points], DAY)[0], LEAST_EXPLAINED):
                return cls(WEEK, *week.knots(width))
        if day is None:
            return None
        explained, width = _explained(_ranks(day.residuals), day.cells, DAY)
        return cls(DAY, *day.knots(width)) if explained > LEAST_EXPLAINED else None

    def level(self, at: float) -> float:
        """By which factor durations are longer than on average at this moment (Unix s)."""
        if not math.isfinite(at):
            return 1.0
        time, last = at % self.period, len(self.times) - 1
        right = bisect_right(self.times, time)
        left, right = (right - 1, right) if 0 < right <= last else (last, 0)
        width = (self.times[right] - self.times[left]) % self.period
        share = (time - self.times[left]) % self.period / width if width else 0.0
        return self.levels[left] + share * (self.levels[right] - self.levels[left])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, exact."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(stored["period"], tuple(stored["times"]), tuple(stored["levels"]))


_Cell = tuple[int, int]           # number of the period, number of the bin within


def _cell(at: float, period: float) -> _Cell:
    number, rest = divmod(at, period)
    return int(number), min(int(rest / period * BINS[period]), BINS[period] - 1)


@dataclass(frozen=True, slots=True)
class _Profile:
    """log(duration) = what that day was like + what that time of day is like (Tukey's median polish) + the rest."""

    period: float
    cells: Sequence[_Cell]                     # of each point
    residuals: Sequence[float]                 # of each point, without what its day was like
    centres: Mapping[int, float]               # of each bin that was seen on several days: mean time of its points, s since the period began

    @classmethod
    def of(cls, points: Sequence[tuple[float, float]], period: float) -> Self | None:
        """None when too few times of the day were seen often enough."""
        cells = [_cell(at, period) for at, _ in points]
        values, moments = defaultdict[_Cell, list[float]](list), defaultdict[int, list[float]](list)
        for (at, value), cell in zip(points, cells, strict=True):
            values[cell].append(value)
            moments[cell[1]].append(at % period)
        days = _polished({cell: _median(found) for cell, found in values.items()})
        seen = [bin_ for bin_, times in Counter(bin_ for _, bin_ in values).items() if times >= LEAST_TIMES]
        if len({int(bin_ * period / BINS[period] / 3600) for bin_ in seen}) < LEAST_HOURS * period / 3600:
            return None
        residuals = [value - days[cell[0]] for (_, value), cell in zip(points, cells, strict=True)]
        return cls(period, cells, residuals, {bin_: sum(moments[bin_]) / len(moments[bin_]) for bin_ in sorted(seen)})

    def knots(self, width: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Times and levels, smoothed over `width` bins to either side."""
        grouped = defaultdict[int, list[float]](list)
        for value, (_, bin_) in zip(self.residuals, self.cells, strict=True):
            grouped[bin_].append(value)
        count = BINS[self.period]
        sums, weights = [0.0] * count, [0.0] * count
        for bin_, found in grouped.items():
            sums[bin_], weights[bin_] = len(found) * _midmean(found), float(len(found))
        smooth = _smoothed(sums, weights, width)
        levels = [math.exp(smooth[bin_]) for bin_ in self.centres]
        mean = sum(levels) / len(levels)
        return tuple(self.centres.values()), tuple(level / mean for level in levels)


def _smoothed(sums: Sequence[float], weights: Sequence[float], width: int) -> list[float]:
    """Means of neighbouring bins, the nearer the more, round and round; 0 where there is nothing."""
    count = len(sums)
    kernel = [(offset, 1 - abs(offset) / width) for offset in range(1 - width, width)]
    smooth = []
    for bin_ in range(count):
        weight = sum(share * weights[(bin_ + offset) % count] for offset, share in kernel)
        smooth.append(sum(share * sums[(bin_ + offset) % count] for offset, share in kernel) / weight if weight > 0 else 0.0)
    return smooth


def _polished(medians: Mapping[_Cell, float]) -> dict[int, float]:
    """What each day was like: its median without what its times of day are like; a day of few hours is not taken for a slow one."""
    days, bins = dict.fromkeys((day for day, _ in medians), 0.0), dict.fromkeys((bin_ for _, bin_ in medians), 0.0)
    for _ in range(_POLISHES):
        _settle(bins, ((bin_, value - days[day]) for (day, bin_), value in medians.items()))
        _settle(days, ((day, value - bins[bin_]) for (day, bin_), value in medians.items()))
    return days


def _settle(effects: dict[int, float], values: Iterable[tuple[int, float]]) -> None:
    grouped = defaultdict[int, list[float]](list)
    for key, value in values:
        grouped[key].append(value)
    effects.update((key, _median(found)) for key, found in grouped.items())


def _median(values: Sequence[float]) -> float:
    ordered, half = sorted(values), len(values) // 2
    return ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / 2


def _midmean(values: Sequence[float]) -> float:
    """Mean of the middle half: as deaf to outliers as need be, and a third more certain than the median."""
    quarter = len(values) // 4
    kept = sorted(values)[quarter:len(values) - quarter]
    return sum(kept) / len(kept)


def _ranks(values: Sequence[float]) -> list[float]:
    """Mid-ranks around 0."""
    ordered = sorted(values)
    return [bisect_left(ordered, value) + bisect_right(ordered, value) - len(ordered) for value in values]


def _explained(ranks: Sequence[float], cells: Sequence[_Cell], period: float) -> tuple[float, int]:
    """Share of the variance of ranks that the time of day explains at least, each day foretold from all others; < 0 when nothing.

    At least: two standard errors less than what it explained, by how much that differed from day to day. With the
    smoothing that foretells best.
    """
    count = BINS[period]
    sums, numbers = defaultdict[int, list[float]](lambda: [0.0] * count), defaultdict[int, list[float]](lambda: [0.0] * count)
    for rank, (day, bin_) in zip(ranks, cells, strict=True):
        sums[day][bin_] += rank
        numbers[day][bin_] += 1
    whole, number = [sum(bins) for bins in zip(*sums.values(), strict=True)], [sum(bins) for bins in zip(*numbers.values(), strict=True)]
    total, best = sum(rank * rank for rank in ranks), (-math.inf, WIDTHS[-1])
    for width in WIDTHS if total else ():
        gains = []
        for day, own in sums.items():
            others = [part - mine for part, mine in zip(whole, own, strict=True)]
            foretold = _smoothed(others, [part - mine for part, mine in zip(number, numbers[day], strict=True)], width)
            gains.append(sum(guess * (2 * mine - much * guess) for guess, mine, much in zip(foretold, own, numbers[day], strict=True)))
        gained = sum(gains)
        error = math.sqrt(sum((gain - gained / len(gains)) ** 2 for gain in gains))
        best = max(best, ((gained - 2 * error) / total, width))
    return best
