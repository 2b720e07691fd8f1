"""The kinds of test, in one table, and the state of one watched signal.

A further kind is one class that fits a past, one that takes in what came after, and one line in TESTS.
"""

import math
from array import array
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, ClassVar, Protocol, Self

from monitor.judge.counts import CountFit
from monitor.judge.drift import stable_from
from monitor.judge.effect import Change, count_change, latency_change, ratio_change, success_change
from monitor.judge.latency import REFERENCE, LatencyFit
from monitor.judge.novelty import MOST_NEW, NoveltyEvidence, NoveltyFit
from monitor.judge.ratios import RatioFit
from monitor.judge.sequential import LONE_NEED, NEVER
from monitor.judge.signals import Reading, Subject
from monitor.judge.silence import SilenceFit
from monitor.judge.success import SuccessFit, without_outages
from probes.sample import Signal

KEPT = 400                        # newest readings kept to show how large the change is


class Evidence(Protocol):
    """State of a sequential test of one signal. It may be asked after every sample."""

    seen: int

    def add(self, reading: Reading) -> None:
        """Takes one reading in."""

    def bet(self) -> float:
        """What 1 put on harm is worth now; of mean <= 1 without harm, so that a weighted mean over signals is too."""

    def gated_bet(self) -> float:
        """The same, as far as the harm has a practical size."""

    def counted(self) -> float:
        """Nats by which the tests with a fixed budget (counts, rank sums) are past the need of a lone signal."""

    def reach(self) -> float:
        """The strongest test as a multiple of a lone signal's need."""

    def unsettled(self) -> bool:
        """True while the newest reading is a bad one: no moment to call the signal clean."""

    def calm(self) -> bool:
        """True when the newest readings are like the past again."""


class Fit(Protocol):
    """What a test knows of the past of its signal. JSON-able, and enough to replay the verdict."""

    least: ClassVar[int]
    needs_warm_up: ClassVar[bool]
    optimism: ClassVar[float]     # by which the measured power is too good

    @property
    def count(self) -> int:
        """Readings it was fitted to."""

    @property
    def stretch(self) -> float:
        """By how much the placebo windows raise what an alarm needs."""

    @classmethod
    def of(cls, readings: Sequence[Reading]) -> Self | None:
        """Fits readings, oldest first; None when they are too few."""

    def stretched(self, by: float) -> Self:
        """The same fit with this placebo stretch."""

    def start(self, horizon: int) -> Evidence:
        """The test before its first sample, made for a watch of `horizon` samples."""

    @staticmethod
    def worsened(reading: Reading, by: float, random: Random) -> Reading:
        """The reading of a shop that got worse by the margin `by`: what the power is measured with."""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, exact."""

    @classmethod
    def from_dict(cls, stored: Any) -> Self:
        """What `to_dict` gave."""


TESTS: dict[str, type[Fit]] = {
    "bernoulli": SuccessFit, "latency": LatencyFit, "count": CountFit, "ratio": RatioFit, "novelty": NoveltyFit, "silence": SilenceFit,
}
_UNPACKED = {"ratio", "novelty"}  # tests whose readings are no plain numbers
_NOTHING = 1e-9                   # worth of a bet on what does not count


def _always() -> bool:
    return True


def learn(signal: Signal, readings: Sequence[Reading], pace: float = 1.0) -> Fit | None:
    """The test of `signal` fitted to its past, oldest first; None when that is too little. `pace`: as SuccessFit has it."""
    if signal.test == "bernoulli":
        return SuccessFit.of(usable(signal, readings), pace)
    if signal.test == "count":
        return CountFit.of(readings, signal.harm)
    return TESTS[signal.test].of(usable(signal, readings))


def usable(signal: Signal, readings: Sequence[Reading]) -> Sequence[Reading]:
    """The part of a past that says how the target usually is: no outages, and of durations what came after a shift."""
    if signal.test == "bernoulli":
        return without_outages(readings)
    if signal.test == "latency" and (begin := stable_from(readings[-REFERENCE:])):
        return readings[begin - min(len(readings), REFERENCE):]
    return readings


def strength(evidence: Evidence, stretch: float) -> float:
    """Nats by which a signal is past the need of a lone one with the whole budget; negative: still to go."""
    bet = math.log(evidence.bet()) / stretch - LONE_NEED
    if bet >= 0:
        bet = math.log(evidence.gated_bet()) / stretch - LONE_NEED
    return max(bet, evidence.counted())


class Watched:
    """One signal of one target since the update: its test, its share of the budget, and what it showed.

    `weight` is its part of the shop's mean of bets; `handicap` the nats which its tests with a fixed budget need on
    top, `bet_handicap` those which its bet needs when it has to alarm alone.
    """

    __slots__ = (
        "_counted",
        "_readings",
        "_shown",
        "bet_handicap",
        "bet_now",
        "evidence",
        "failed",
        "fit",
        "found",
        "handicap",
        "horizon",
        "overloaded",
        "peak",
        "signal",
        "stands_out",
        "subject",
        "taken",
        "warm",
        "weight",
    )

    def __init__(self, subject: Subject, signal: Signal, fit: Fit, horizon: int) -> None:
        self.subject, self.signal, self.fit, self.horizon = subject, signal, fit, horizon
        self.weight = self.handicap = self.bet_handicap = 0.0
        self.stands_out: Callable[[], bool] = _always      # against the control cohort beside it, if there is one
        self.peak = 0.0            # highest evidence so far, as a multiple of what a lone signal needs
        # The newest KEPT of them, and some older ones; packed when they are numbers.
        self._readings: array[float] | list[Reading] = [] if signal.test in _UNPACKED else array("d")
        self.found: dict[str, float] = {}          # events by signature, of those that are new
        self.taken = self.failed = self.warm = self.overloaded = 0
        self._shown: tuple[int, Change | None] = (0, None)
        self.restart()

    def restart(self) -> None:
        """Forgets the evidence, as when a control probe was worse at the same time; what was measured is kept."""
        self.evidence: Evidence = self.fit.start(self.horizon)
        self.bet_now = 1.0         # the bet, tempered by the placebo stretch
        self._counted = NEVER

    def add(self, reading: Reading) -> None:
        """Takes a reading in, to be judged."""
        self.evidence.add(reading)
        if isinstance(self.evidence, NoveltyEvidence):
            self._find(self.evidence.news)
        else:
            self._readings.append(reading)
        if len(self._readings) == 2 * KEPT:
            del self._readings[:KEPT]
        self.taken += 1
        self.failed += self.signal.test == "bernoulli" and reading < 0.5
        bet = self.evidence.bet()
        self.bet_now = bet if self.fit.stretch == 1.0 else bet ** (1 / self.fit.stretch)
        self._counted = self.evidence.counted()
        self.peak = max(self.peak, math.log(self.bet_now) / LONE_NEED, self._counted / LONE_NEED + 1)

    def newest(self) -> list[Reading]:
        """The newest KEPT readings, oldest first; of new signatures none are kept but what was `found`."""
        return list(self._readings[-KEPT:])

    def _find(self, news: dict[str, float]) -> None:
        for name, count in news.items():
            if name in self.found or len(self.found) < MOST_NEW:
                self.found[name] = self.found.get(name, 0.0) + count

    def gated(self) -> float:
        """The bet as far as the harm has a practical size and stands out; looked at only near an alarm."""
        worth = float(self.evidence.gated_bet() ** (1 / self.fit.stretch))
        return worth if worth <= 1 or self.stands_out() else _NOTHING

    def counted(self) -> float:
        """Nats by which the tests with a fixed budget are past what this signal needs; an alarm at 0."""
        nats = self._counted - self.handicap
        return nats if nats < 0 or self.stands_out() else NEVER

    def alone(self) -> float:
        """Nats by which this signal alone is past its need; an alarm at 0."""
        bet = math.log(self.gated()) - LONE_NEED - self.bet_handicap
        return max(bet, self.counted())

    def need(self) -> float:
        """Nats that an alarm of this signal alone needs."""
        return LONE_NEED + self.bet_handicap

    def lone_evidence(self) -> float:
        """Nats of evidence regardless of its share of the budget, the counting tests put on the scale of the bets."""
        return max(math.log(self.gated()), self._counted + LONE_NEED)

    def change(self) -> Change | None:
        """After / before with its bounds; reckoned once per reading, it takes a millisecond."""
        if self._shown[0] != self.taken:
            self._shown = self.taken, self._change()
        return self._shown[1]

    def mean(self) -> float:
        """Of the newest KEPT readings of a count; 0 when there are none."""
        newest = self.newest()
        return sum(newest) / len(newest) if newest else 0.0

    def share(self) -> float:
        """Events per try in the newest KEPT runs of a ratio, as it was declared; 0 when there were no tries."""
        events, tries = self._sums()
        share = events / tries if tries else 0.0
        return 1 - share if self.signal.harm == "down" and tries else share

    def _sums(self) -> tuple[float, float]:
        newest = self.newest()
        return sum(k for k, _ in newest), sum(n for _, n in newest)

    def _change(self) -> Change | None:
        if isinstance(self.fit, LatencyFit):
            return latency_change(self.fit, self.newest())
        if isinstance(self.fit, SuccessFit):
            return success_change(self.fit.failures, self.fit.count, self.failed, self.taken)
        if isinstance(self.fit, CountFit):
            return count_change(self.fit, self.newest())
        if isinstance(self.fit, RatioFit):
            runs = min(self.taken, KEPT)
            return ratio_change(self.fit, *self._sums(), runs, fewer=self.signal.harm == "down")
        return None
