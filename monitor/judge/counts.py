"""Test of a count per run: are there more events (or fewer) than there were? (detection.md 2.3)

Errors, orders and requests come in clusters. A Poisson test of them alarms on one harmless day in four, so the counts are
negative binomial, with the spread that the past had.
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, ClassVar, Literal, Self

from monitor.judge.distributions import quantile
from monitor.judge.latency import LEAST_TIMED, variance_inflation
from monitor.judge.sequential import LONE_NEED, NEVER, Bets

Harm = Literal["up", "down"]
MULTIPLES = {"up": (1.5, 2.0, 4.0), "down": (0.7, 0.4, 0.1)}      # forms of harm: the mean becomes this multiple
GATES = {"up": 1.3, "down": 0.8}  # a change counts while the recent mean is beyond this multiple of the old one
LARGEST = 1e9                     # a count beyond is the same
_CAP = 0.99                       # quantile at which the past is cut off: an incident in it is no usual spread
_SMALL = 3.0                      # so few events are never cut off
_LARGEST_FACTOR = math.log(20)    # one run is no more evidence than that: a lone spike is no change
LEAST_TEMPER = 0.35               # more than durations have: public counts remember for days, and doubling must stay visible
_EVENTS = 3                       # fewer recent events are never too many
_GATED, _RECENT = 20, 10          # newest runs that the gate looks at, and that must look normal again


def is_count(reading: float) -> bool:
    """False for what no count can be."""
    return math.isfinite(reading) and reading >= 0


@dataclass(frozen=True, slots=True)
class CountFit:
    """How many events a run had before: mean and spread, without the largest hundredth."""

    least: ClassVar[int] = 90
    needs_warm_up: ClassVar[bool] = False
    optimism: ClassVar[float] = 0.0

    count: int
    mean: float                   # events a run, as it was
    base: float                   # the mean that is tested: one standard error towards harm, for the finite baseline
    shape: float                  # of the negative binomial: variance = mean + mean² / shape
    temper: float                 # 1 / variance inflation: neighbouring runs are alike
    p95: float
    cap: float                    # 99th percentile
    harm: Harm = "up"
    stretch: float = 1.0

    @classmethod
    def of(cls, readings: Sequence[float], harm: Harm = "up") -> Self | None:
        """Fits events per run, oldest first; None when they are too few."""
        known = [min(reading, LARGEST) for reading in readings if is_count(reading)]
        if len(known) < LEAST_TIMED:
            return None
        ordered = sorted(known)
        cap = max(quantile(ordered, _CAP), _SMALL)
        cut = [min(reading, cap) for reading in known]
        mean = sum(cut) / len(cut)
        variance = sum((reading - mean) ** 2 for reading in cut) / (len(cut) - 1)
        temper = max(1 / variance_inflation(known), LEAST_TEMPER)
        smoothed = mean + 0.5 / len(cut)
        error = math.sqrt(max(variance, smoothed) / (len(cut) * temper))
        base = smoothed + error if harm == "up" else max(mean - error, 0.0)
        shape = min(max(base * base / max(variance - mean, 1e-9), 0.01), 1e6)
        return cls(len(known), mean, base, shape, temper, quantile(ordered, 0.95), cap, harm)

    def variance(self, mean: float) -> float:
        """Of a run's events when their mean is this one."""
        return mean + mean * mean / self.shape

    def slopes(self) -> list[tuple[float, float]]:
        """(a, b) for each form of harm: a k + b is the log likelihood ratio of k events, tempered."""
        out = []
        for multiple in MULTIPLES[self.harm]:
            worse = multiple * self.base
            ratio = (self.shape + worse) / (self.shape + self.base)
            slope = math.log(multiple) - math.log(ratio)
            out.append((self.temper * slope, -self.temper * self.shape * math.log(ratio)))
        return out

    def stretched(self, by: float) -> Self:
        """The same fit with this placebo stretch."""
        return replace(self, stretch=by)

    def start(self, horizon: int) -> "CountEvidence":
        """The test, before its first sample."""
        return CountEvidence(self, horizon)

    @staticmethod
    def worsened(reading: float, by: float, random: Random) -> float:
        """The reading of a shop with the share `by` more events: each may come twice."""
        more = reading * by
        return reading + math.floor(more) + (random.random() < more % 1)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, exact."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(**stored)


class CountEvidence:
    """State of the test: likelihood-ratio bets on a multiple of the mean."""

    __slots__ = ("_bets", "_fit", "_recent", "_slopes", "seen")

    def __init__(self, fit: CountFit, horizon: int) -> None:
        self._fit, self._slopes = fit, fit.slopes()
        self._bets = Bets(len(self._slopes), horizon)
        self._recent: deque[float] = deque(maxlen=_GATED)
        self.seen = 0

    def add(self, reading: float) -> None:
        """Takes the events of one run in; what no count can be is passed over."""
        if not is_count(reading):
            return
        events = min(reading, LARGEST)
        self._bets.add(tuple([math.exp(max(min(a * events + b, _LARGEST_FACTOR), -700.0)) for a, b in self._slopes]))
        self._recent.append(events)
        self.seen += 1

    def bet(self) -> float:
        """What 1 put on harm is worth now; of mean <= 1 without harm."""
        return max(sum(self._bets.holdings) / len(self._slopes) + self._bets.reserve, 1e-9)

    def gated_bet(self) -> float:
        """The same while the recent mean is far enough from the old one to matter."""
        return self.bet() if self._open() else 1e-9

    def counted(self) -> float:
        """There is no test with a fixed budget."""
        return NEVER

    def reach(self) -> float:
        """The bet as a multiple of its need; 1 is an alarm of a lone signal."""
        return max(math.log(self.gated_bet()) / LONE_NEED, 0.0)

    def unsettled(self) -> bool:
        """True while the newest run is a bad one."""
        if not self._recent:
            return False
        return self._recent[-1] > self._fit.cap if self._fit.harm == "up" else self._recent[-1] < self._fit.mean / 4

    def calm(self) -> bool:
        """True when the newest runs have no more events (or no fewer) than the past explains, by one standard error."""
        newest = list(self._recent)[-_RECENT:]
        if len(newest) < _RECENT:
            return False
        fit, mean = self._fit, sum(newest) / _RECENT
        error = math.sqrt(fit.variance(fit.base) / (_RECENT * fit.temper))
        return mean <= fit.mean + error if fit.harm == "up" else mean >= fit.mean - error

    def _open(self) -> bool:
        total, count = sum(self._recent), len(self._recent)
        usual = GATES[self._fit.harm] * self._fit.mean * count
        return total >= max(usual, _EVENTS) if self._fit.harm == "up" else total <= usual
