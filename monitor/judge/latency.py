"""Test of a duration: is it longer than it was? By ranks among the target's own past (detection.md 2.2 and 9).

Ranks need no shape of the distribution: durations have heavy tails, ties and several modes.
"""

import math
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, ClassVar, Self

from monitor.judge.distributions import chi_square_80, normal_scores, quantile
from monitor.judge.sequential import LONE_NEED, NEVER, SHORTEST_HORIZON, Bets, Bursts, count_bursts

TOLERANCE = 1.01                  # durations are divided by this before they are ranked: nobody is paged for 1 %
BODY_GATE = 1.14                  # a shift counts while the recent median is this multiple of the baseline's
TAIL_BURSTS = (1.30, 2.00)        # a sample above one of these multiples of the baseline's p95 is a slow one
TAIL_BURST = TAIL_BURSTS[0]
TAIL_SLICE = 0.0125               # of the false-alarm budget, for bursts of samples above each of the two
REFERENCE = 400                   # durations that new ones are ranked among
LEAST_TIMED = 40                  # durations among the runs of the baseline
GATED = 30                        # newest samples that the gate looks at
LEAST_TEMPER = 0.05               # whatever the past: a harm that lasts for hours must stay visible
# Bounds of z by the number of samples summed: P(ever) without a change, and what a part of the budget asks for on top,
# sqrt(z² + NATS ln(1 / part)), by simulation in bench/judge/bounds.py.
STEPS = ((60, 3.3), (5, 3.1))
NATS = 1.7
_WINDOW = 30                      # a rank sum begins every so many samples and lives twice as long: for late harm
_POWERS = (0.15, 0.4)             # kappa of the bets kappa p^(kappa - 1)
_STEPS = ((0.25, 0.3), (0.5, 0.45))    # (c, l) of the bets 1 + l (1{p <= c} / c - 1): they see what has two modes, or ties
_BLOCKS = (4, 8, 15, 30, 60)      # samples
_SHORT, _LONG_MEMORY = 15, 4.0    # blocks longer than this are looked at from this inflation on
_LEAST_BLOCKS = 4
_FINITE = 60                      # a reference of n is worth n / (n + this) of a whole one: it knows its tail too little


def variance_inflation(values: Sequence[float]) -> float:
    """By how much neighbours that are alike inflate the variance of a mean; 1 when they are not, or not significantly.

    Largest over block lengths L of V = L var(block means of normal scores) / var(scores), as far as V is more than what
    independent blocks reach in one case of five (chi-square 80 %). Then half way between V and V in units of that: V
    itself costs power, the units alone leave 2.3 false alarms in 100 at n = 90 and an autocorrelation of 0.5. Longer
    blocks, which are few, are looked at only when the shorter ones show a long memory.
    """
    count = len(values)
    if count < SHORTEST_HORIZON:
        return 1.0
    ordered, table = sorted(values), normal_scores(count)
    scores = [table[bisect_left(ordered, value) + bisect_right(ordered, value) + 1] for value in values]
    spread = max(_variance(scores, 0), 1e-9)
    inflation = 1.0
    for length in _BLOCKS:
        blocks = count // length
        if blocks < _LEAST_BLOCKS or (length > _SHORT and inflation < _LONG_MEMORY):
            break
        kept = scores[count - blocks * length:]
        means = [sum(kept[begin:begin + length]) / length for begin in range(0, len(kept), length)]
        raw = length * _variance(means, 1) / spread
        beyond_chance = raw * (blocks - 1) / chi_square_80(blocks - 1)
        if beyond_chance > 1:
            inflation = max(inflation, (raw + beyond_chance) / 2)
    return inflation


def _memory(temper: float) -> int:
    """Samples within which a duration is still like the one before: (V - 1) / 2, as V is 1 + 2 times the correlations' sum."""
    return round((1 / temper - 1) / 2)


def _variance(values: Sequence[float], lost: int) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - lost)


@dataclass(frozen=True, slots=True)
class LatencyFit:
    """How long a target took before."""

    least: ClassVar[int] = 90     # runs without which durations are shown, not judged
    needs_warm_up: ClassVar[bool] = True
    optimism: ClassVar[float] = 0.06     # its replays are drawn from the reference itself: 0.74 measured at 0.80

    reference: "array[float]"     # s, ascending; packed, for an update keeps those of every target
    temper: float                 # 1 / variance inflation, at least LEAST_TEMPER
    p50: float
    p95: float
    slow_bursts: tuple[int, ...]  # one number for each of TAIL_BURSTS
    stretch: float = 1.0          # by which the placebo windows raise what an alarm needs; 1 to 1.5
    tolerance: float = TOLERANCE

    @classmethod
    def of(cls, readings: Sequence[float]) -> Self | None:
        """Fits durations in s, oldest first; None when they are too few.

        The newest REFERENCE are what later ones are ranked among; how alike neighbours are is read from all.
        """
        if len(readings) < LEAST_TIMED:
            return None
        temper = max(1 / variance_inflation(readings), LEAST_TEMPER)
        newest = readings[-REFERENCE:]
        ordered = array("d", sorted(newest))
        p95 = quantile(ordered, 0.95)
        slow = tuple(count_bursts([reading > p95 * times for reading in newest], _memory(temper)) for times in TAIL_BURSTS)
        return cls(ordered, temper, quantile(ordered, 0.5), p95, slow)

    @property
    def count(self) -> int:
        """Durations in the reference."""
        return len(self.reference)

    def above(self, seconds: float) -> int:
        """Twice the number of reference values above, each equal one counted once."""
        return 2 * self.count - bisect_left(self.reference, seconds) - bisect_right(self.reference, seconds)

    def stretched(self, by: float) -> Self:
        """The same fit with this placebo stretch."""
        return replace(self, stretch=by)

    def start(self, horizon: int) -> "LatencyEvidence":
        """The test, before its first sample."""
        return LatencyEvidence(self, horizon)

    @staticmethod
    def worsened(reading: float, by: float, _random: Random) -> float:
        """A reading of a shop that takes the share `by` longer."""
        return reading * (1 + by)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, exact."""
        return asdict(self) | {"reference": list(self.reference)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(**{**stored, "reference": array("d", stored["reference"]), "slow_bursts": tuple(stored["slow_bursts"])})


class LatencyEvidence:
    """State of the test: bets on the rank of every sample, rank sums, and the counts of slow bursts."""

    __slots__ = (
        "_bets", "_bursts", "_fit", "_head", "_later", "_marks", "_open", "_powers", "_recent", "_stake", "_steps", "_sum", "seen",
    )

    def __init__(self, fit: LatencyFit, horizon: int) -> None:
        self._fit = fit
        self._powers, self._steps = _prices(fit.count, fit.temper)
        self._stake = fit.count * fit.temper / (fit.count * fit.temper + _FINITE)
        self._bets = Bets(len(_POWERS) + len(_STEPS), horizon)
        self._bursts = [
            (times * fit.p95, Bursts(before, fit.count, TAIL_SLICE, horizon, _memory(fit.temper)))
            for times, before in zip(TAIL_BURSTS, fit.slow_bursts, strict=True)
        ]
        self._recent: deque[float] = deque(maxlen=GATED)
        self._open: bool | None = None
        self._sum = 0.0
        self._marks = [0.0]        # the sum at every _WINDOW samples
        windows = max(horizon // _WINDOW - 1, 1)
        # The first sum runs on for the whole watch and keeps half of the budget when others begin after it.
        self._head, self._later = (0.0, 0.0) if windows == 1 else (math.log(2), math.log(2 * (windows - 1)))
        self.seen = 0

    def add(self, reading: float) -> None:
        """Takes one duration (s) in."""
        fit = self._fit
        above = fit.above(reading / fit.tolerance)
        rank = min((above / 2 + 1) / (fit.count + 1), 1.0)
        (base1, power1), (base2, power2) = self._powers
        steps = [hit if rank <= limit else miss for limit, hit, miss in self._steps]
        self._bets.add((base1 * rank ** power1, base2 * rank ** power2, *steps))
        for limit, bursts in self._bursts:
            bursts.add(reading > limit)
        self._sum += 1 - (above + 1) / (fit.count + 1)
        self._recent.append(reading)
        self._open = None
        self.seen += 1
        if self.seen % _WINDOW == 0:
            self._marks.append(self._sum)

    def bet(self) -> float:
        """What 1 put on harm is worth now; of mean <= 1 without harm."""
        return 1 - self._stake + self._stake * (sum(self._bets.holdings) / len(self._bets.holdings) + self._bets.reserve)

    def gated_bet(self) -> float:
        """The same while the shift has a practical size."""
        return self.bet() if self._is_open() else 1e-9

    def counted(self) -> float:
        """Nats by which the rank sums or the counts of slow bursts are past their need."""
        stretch = self._fit.stretch
        nats = max(((z / stretch) ** 2 - bound ** 2) / NATS - part for z, bound, part in self._rank_sums())
        if nats >= 0 and not self._is_open():
            nats = NEVER
        return max(nats, *(bursts.past(stretch) for _, bursts in self._bursts))

    def reach(self) -> float:
        """The strongest of the tests as a multiple of its need; 1 is an alarm of a lone signal."""
        z = max(z / math.sqrt(bound ** 2 + NATS * part) for z, bound, part in self._rank_sums())
        gated = z if self._is_open() else 0.0
        return max(math.log(self.gated_bet()) / LONE_NEED, gated, *(bursts.reach() for _, bursts in self._bursts))

    def unsettled(self) -> bool:
        """True while the newest sample is a bad one."""
        return any(bursts.inside for _, bursts in self._bursts)

    def calm(self) -> bool:
        """True when the newest samples are like the past again: what was worse is gone (detection.md 4, went away)."""
        newest = list(self._recent)[-10:]
        if len(newest) < 10 or quantile(sorted(newest), 0.5) >= BODY_GATE * self._fit.p50:
            return False
        total = sum(1 - (self._fit.above(value / self._fit.tolerance) + 1) / (self._fit.count + 1) for value in newest)
        return total / self._deviation(len(newest)) <= 1.0

    def _is_open(self) -> bool:
        """Whether the recent median is far enough above the baseline's to matter."""
        if self._open is None:
            self._open = len(self._recent) < 2 or quantile(sorted(self._recent), 0.5) >= BODY_GATE * self._fit.p50
        return self._open

    def _rank_sums(self) -> list[tuple[float, float, float]]:
        """(z, bound, nats asked for on top) of the sum since the start and of the two younger ones under way."""
        sums = [self._rank_sum(0, self._head)]
        if self._later:
            newest = self.seen // _WINDOW
            sums += [self._rank_sum(mark, self._later) for mark in (newest - 1, newest) if mark > 0]
        return sums

    def _rank_sum(self, mark: int, part: float) -> tuple[float, float, float]:
        count = self.seen - mark * _WINDOW
        for least, bound in STEPS:
            if count >= least:
                return max((self._sum - self._marks[mark]) / self._deviation(count), 0.0), bound, part
        return 0.0, STEPS[-1][1], part

    def _deviation(self, count: int) -> float:
        """Standard deviation of the sum of `count` scores without a change: variance 1/3 each, finite reference."""
        return math.sqrt(count / 3 * (1 + count / self._fit.count) / self._fit.temper)


def _prices(count: int, temper: float) -> tuple[list[tuple[float, float]], list[tuple[float, float, float]]]:
    """Betting factors to the power `temper` (their mean stays <= 1: Jensen): (base, exponent), (limit, hit, miss)."""
    powers = [(kappa ** temper, (kappa - 1) * temper) for kappa in _POWERS]
    steps = []
    for share, stake in _STEPS:
        limit = max(share, 2 / (count + 1))
        steps.append((limit, (1 + stake * (1 / limit - 1)) ** temper, (1 - stake) ** temper))
    return powers, steps
