"""Test of a log that always spoke: has it fallen silent? By the gaps that it had before (detection.md 2.5)

A crashed worker or a full disk writes no error. But a log that was often silent says nothing when it is silent again.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, ClassVar, Self

from monitor.judge.counts import is_count
from monitor.judge.latency import LEAST_TIMED
from monitor.judge.sequential import NEVER, SHORTEST_HORIZON

SLICE = 0.002                     # of the false-alarm budget
MUCH_LONGER = 3                   # times the longest gap of the past
LEAST_GAP = 10                    # silent runs below which nothing is said, however talkative the log was
MOST_SILENT = 0.5                 # share of silent runs of a log whose silence means nothing
NEED = -math.log(SLICE)


def gaps(readings: Sequence[float]) -> list[int]:
    """Lengths of the runs of zeros."""
    found, length = [], 0
    for reading in [*readings, 1.0]:
        if reading > 0 and length:
            found.append(length)
        length = 0 if reading > 0 else length + 1
    return found


@dataclass(frozen=True, slots=True)
class SilenceFit:
    """How long a log was silent before, in runs."""

    least: ClassVar[int] = 90
    needs_warm_up: ClassVar[bool] = True      # what is restarted for the update is silent for a moment
    optimism: ClassVar[float] = 0.0

    count: int
    silent: int                   # runs without a line
    gaps: int
    longest: int                  # gap, in runs
    mean: float                   # lines a run
    stretch: float = 1.0

    @classmethod
    def of(cls, readings: Sequence[float]) -> Self | None:
        """Fits lines per run, oldest first; None when they are too few."""
        known = [reading for reading in readings if is_count(reading)]
        if len(known) < LEAST_TIMED:
            return None
        found = gaps(known)
        mean = sum(min(reading, 1e9) for reading in known) / len(known)
        return cls(len(known), sum(found), len(found), max(found, default=0), mean)

    @property
    def spoke(self) -> bool:
        """Whether its silence means anything."""
        return self.silent <= MOST_SILENT * self.count

    def log_tail(self, gap: int, horizon: int) -> float:
        """ln of the probability of a gap so long within `horizon` runs; 0 for one that the past has seen.

        A new gap is longer than all of m earlier ones with probability 1 / (m + 1), the (m + 1/2) / n of a run that begins
        one; beyond the longest the tail falls by e every third of it and a run, slower than any gap distribution that made
        such a longest one often.
        """
        if gap <= self.longest:
            return 0.0
        ahead = (self.gaps + 0.5) / self.count * max(horizon, SHORTEST_HORIZON)
        scale = 1 + self.longest / 3
        return min(math.log(ahead / (self.gaps + 1)) - (gap - self.longest - 1) / scale, 0.0)

    def least_gap(self) -> int:
        """Silent runs that are much longer than any in the past."""
        return max(LEAST_GAP, MUCH_LONGER * self.longest + 1)

    def stretched(self, by: float) -> Self:
        """The same fit with this placebo stretch."""
        return replace(self, stretch=by)

    def start(self, horizon: int) -> "SilenceEvidence":
        """The test, before its first sample."""
        return SilenceEvidence(self, horizon)

    @staticmethod
    def worsened(_reading: float, _by: float, _random: Random) -> float:
        """A log that fell silent."""
        return 0.0

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, exact."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(**stored)


class SilenceEvidence:
    """State of the test: the length of the silence under way, and the price of the longest."""

    __slots__ = ("_fit", "_horizon", "_nats", "gap", "longest", "seen")

    def __init__(self, fit: SilenceFit, horizon: int) -> None:
        self._fit, self._horizon = fit, horizon
        self._nats = 0.0           # of the longest silence that was much longer than any before
        self.gap = 0               # silent runs up to the newest
        self.longest = 0
        self.seen = 0

    def add(self, reading: float) -> None:
        """Takes the lines of one run in; what no count can be is passed over."""
        if not is_count(reading):
            return
        self.seen += 1
        self.gap = 0 if reading > 0 else self.gap + 1
        self.longest = max(self.longest, self.gap)
        if self._fit.spoke and self.gap >= self._fit.least_gap():
            self._nats = max(self._nats, -self._fit.log_tail(self.gap, self._horizon))

    def bet(self) -> float:
        """There are no bets."""
        return 1.0

    def gated_bet(self) -> float:
        """There are no bets."""
        return 1.0

    def counted(self) -> float:
        """Nats by which a silence is past its need."""
        return self._nats / self._fit.stretch - NEED if self._nats else NEVER

    def reach(self) -> float:
        """The evidence as a multiple of its need."""
        return self._nats / NEED

    def unsettled(self) -> bool:
        """True while a silence longer than any before lasts."""
        return self._fit.spoke and self.gap > max(self._fit.longest, 2)

    def calm(self) -> bool:
        """True when it speaks again."""
        return self.seen > 0 and not self.gap
