"""Test of a target's success: did its failures become more, or longer, than they were? (detection.md 2.1 and 9)"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby, pairwise
from random import Random
from typing import Any, ClassVar, Self

from monitor.judge.distributions import wilson
from monitor.judge.sequential import LONE_NEED, Bets, Bursts, count_bursts

BURST_SLICE = 0.015               # of the false-alarm budget, for bursts of failures
FORMS = (0.25, 0.25, 0.20, 0.30)  # weights of the four forms of harm: mild, marked, half of all, nearly all fail
OUTAGE = 4                        # failures in a row that are an outage, told by itself; no part of how a target usually fails
_CLEAN = 0.003                    # a past without a failure is no proof of 0 %
_PERSISTS = 0.20                  # nor is one without two failures in a row, unless it had many (rule of three)
_PRIOR = 0.20                     # how likely a failure is followed by another one, before there are any: worth two of them
_RECENT = 10                      # runs that must look normal before a worsening counts as gone


def _odds(base: float, worse: Sequence[float], failed: bool) -> tuple[float, ...]:
    """Likelihood ratio of one outcome, `worse` failing probabilities against `base`."""
    return tuple(q / base if failed else (1 - q) / (1 - base) for q in worse)


def without_outages(readings: Sequence[float]) -> Sequence[float]:
    """What is left when runs of OUTAGE failures or more are taken out; all of it when nothing is left."""
    parts = ((ok, list(alike)) for ok, alike in groupby(readings, key=lambda reading: reading >= 0.5))
    return [reading for ok, alike in parts if ok or len(alike) < OUTAGE for reading in alike] or readings


@dataclass(frozen=True, slots=True)
class SuccessFit:
    """How a target failed before. Failures cluster, hence two probabilities: of the first one, and of one more."""

    least: ClassVar[int] = 10     # runs without which nothing is said
    needs_warm_up: ClassVar[bool] = False
    optimism: ClassVar[float] = 0.0

    count: int
    failures: int
    onset: float                  # P(fail | the run before was ok), one standard error added for the finite baseline
    persistence: float            # P(fail | the run before failed)
    bursts: int
    stretch: float = 1.0          # by which the placebo windows raise what an alarm needs; 1 to 1.5

    @classmethod
    def of(cls, readings: Sequence[float], pace: float = 1.0) -> Self:
        """Fits readings 1.0 (ok) and 0.0 (failed), oldest first; a clean past is no proof of 0 %, so it is floored.

        `pace` is their spacing as a part of the regular one: the closer runs are, the more of them fail with one failure.
        """
        failed = [reading < 0.5 for reading in readings]
        pairs = list(pairwise(failed))
        after_ok = sum(1 for before, _ in pairs if not before)
        after_failure = len(pairs) - after_ok
        begun = sum(1 for before, now in pairs if now and not before)
        lasted = sum(1 for before, now in pairs if now and before)
        onset = (begun + 0.5) / (after_ok + 50)
        onset += math.sqrt(onset * (1 - onset) / max(after_ok, 1))
        persistence = (lasted + 2 * _PRIOR ** pace) / (after_failure + 2)
        persistence = max(persistence, min(_PERSISTS ** pace, 3 / (after_failure + 1)))
        onset, persistence = min(max(onset, _CLEAN), 0.9), min(persistence, 0.98)
        return cls(len(failed), sum(failed), onset, persistence, count_bursts(failed))

    def factors(self) -> tuple[tuple[tuple[float, ...], tuple[float, ...]], ...]:
        """Betting factors by [the run before failed][this run failed], one for each of the forms of harm."""
        a, b = self.onset, self.persistence
        first = (min(2 * a + 0.02, 0.9), max(min(4 * a, 0.9), 0.2), max(a, 0.5), max(a, 0.95))
        again = (b, max(b, 0.6), 1 - (1 - b) / 3, 1 - (1 - b) / 10)
        return ((_odds(a, first, False), _odds(a, first, True)), (_odds(b, again, False), _odds(b, again, True)))

    def stretched(self, by: float) -> Self:
        """The same fit with this placebo stretch."""
        return replace(self, stretch=by)

    def start(self, horizon: int) -> "SuccessEvidence":
        """The test, before its first sample."""
        return SuccessEvidence(self, horizon)

    @staticmethod
    def worsened(reading: float, by: float, random: Random) -> float:
        """A reading of a shop in which the share `by` of all runs fails on top of the usual."""
        return 0.0 if random.random() < by else reading

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, exact."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(**stored)


class SuccessEvidence:
    """State of the test: likelihood-ratio bets on the two-state chain, and the count of failure bursts."""

    __slots__ = ("_bets", "_bursts", "_factors", "_failed", "_fit", "_recent", "seen")

    def __init__(self, fit: SuccessFit, horizon: int) -> None:
        self._fit, self._factors = fit, fit.factors()
        self._bets = Bets(len(FORMS), horizon)
        self._bursts = Bursts(fit.bursts, fit.count, BURST_SLICE, horizon)
        self._failed = False       # the update is asked to answer for the first failure, whatever came before
        self._recent: deque[bool] = deque(maxlen=_RECENT)
        self.seen = 0

    def add(self, reading: float) -> None:
        """Takes one outcome in."""
        failed = reading < 0.5
        self._bets.add(self._factors[self._failed][failed])
        self._bursts.add(failed)
        self._recent.append(failed)
        self._failed = failed
        self.seen += 1

    def bet(self) -> float:
        """What 1 put on harm is worth now; of mean <= 1 without harm."""
        mild, marked, half, nearly_all = self._bets.holdings
        return 0.25 * mild + 0.25 * marked + 0.20 * half + 0.30 * nearly_all + self._bets.reserve

    def gated_bet(self) -> float:
        """The same: a failure needs no practical size to count."""
        return self.bet()

    def counted(self) -> float:
        """Nats by which the count of bursts is past its need."""
        return self._bursts.past(self._fit.stretch)

    def reach(self) -> float:
        """The strongest of the tests as a multiple of its need; 1 is an alarm of a lone signal."""
        return max(math.log(self.bet()) / LONE_NEED, self._bursts.reach())

    def unsettled(self) -> bool:
        """True while the newest sample is a bad one."""
        return self._bursts.inside

    def calm(self) -> bool:
        """True when the newest runs fail no more than the past did: what was worse is gone."""
        if len(self._recent) < _RECENT:
            return False
        return sum(self._recent) / _RECENT <= wilson(self._fit.failures, self._fit.count, 1.0)[1]
