"""Test of events per try: errors per request, sessions without an order. Is their share higher than it was? (detection.md 2.5)

The share of one run is no coin of a fixed bias: it wanders, by more than its number of tries explains. So it is
beta-binomial, with the over-dispersion that the past had. Where less is worse (orders per session) the tries *without*
the event are counted, so that here harm is always "more".
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, ClassVar, Self

from monitor.judge.counts import LEAST_TEMPER, is_count
from monitor.judge.distributions import quantile
from monitor.judge.latency import LEAST_TIMED, variance_inflation
from monitor.judge.sequential import LONE_NEED, NEVER, Bets

Share = tuple[float, float]       # events, tries
ODDS = (1.5, 2.0, 4.0)            # forms of harm: the odds become this multiple; halved conversion is about odds of 2
GATE = 1.2                        # a change counts while the recent odds are this multiple of the old ones
LEAST_RHO = 1e-4                  # nobody's share is perfectly steady
MOST_TRIES = 1e7                  # of a run; more is scaled down
_LARGEST_FACTOR = math.log(20)    # one run is no more evidence than that
_CAP = 0.99                       # quantile at which the past's deviations are cut off
_GATED, _RECENT = 20, 10


def _clean(reading: Share) -> Share | None:
    """The reading with events <= tries <= MOST_TRIES; None when it says nothing."""
    events, tries = reading
    if not (is_count(events) and is_count(tries)) or tries <= 0:
        return None
    tries_kept = min(tries, MOST_TRIES)
    return min(events / tries, 1.0) * tries_kept, tries_kept


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else math.inf


@dataclass(frozen=True, slots=True)
class RatioFit:
    """Which share of the tries had the event before, and how much that share wandered."""

    least: ClassVar[int] = 90
    needs_warm_up: ClassVar[bool] = False
    optimism: ClassVar[float] = 0.0

    count: int                    # runs with tries
    events: float
    tries: float
    base: float                   # the share that is tested: one standard error up, for the finite baseline
    rho: float                    # correlation between the tries of a run: variance = n p (1 - p) (1 + (n - 1) rho)
    temper: float
    p95: float                    # of the shares of single runs
    stretch: float = 1.0

    @classmethod
    def of(cls, readings: Sequence[Share]) -> Self | None:
        """Fits (events, tries) of runs, oldest first; None when they are too few."""
        known = [kept for reading in readings if (kept := _clean(reading))]
        if len(known) < LEAST_TIMED:
            return None
        events, tries = sum(k for k, _ in known), sum(n for _, n in known)
        share = (events + 0.5) / (tries + 1)
        rho = _correlation(known, share)
        single = [k / n for k, n in known]
        temper = max(1 / variance_inflation(single), LEAST_TEMPER)
        spread = sum(n * (1 + max(n - 1, 0) * rho) for _, n in known)
        error = math.sqrt(share * (1 - share) * spread / temper) / tries
        base = min(max(share + error, 1e-6), 1 - 1e-6)
        return cls(len(known), events, tries, base, rho, temper, quantile(sorted(single), 0.95))

    @property
    def share(self) -> float:
        """As it was."""
        return self.events / self.tries

    def factors(self, events: float, tries: float) -> tuple[float, ...]:
        """Likelihood ratio of each form of harm, tempered."""
        weight = (1 - self.rho) / self.rho
        usual = _log_beta_binomial(events, tries, self.base * weight, (1 - self.base) * weight)
        out = []
        for odds in ODDS:
            share = odds * self.base / (1 - self.base + odds * self.base)
            nats = _log_beta_binomial(events, tries, share * weight, (1 - share) * weight) - usual
            out.append(math.exp(max(min(self.temper * nats, _LARGEST_FACTOR), -700.0)))
        return tuple(out)

    def stretched(self, by: float) -> Self:
        """The same fit with this placebo stretch."""
        return replace(self, stretch=by)

    def start(self, horizon: int) -> "RatioEvidence":
        """The test, before its first sample."""
        return RatioEvidence(self, horizon)

    @staticmethod
    def worsened(reading: Share, by: float, random: Random) -> Share:
        """The reading of a shop in which the share `by` of the tries without the event has it too."""
        events, tries = reading
        more = (tries - events) * by
        return min(events + math.floor(more) + (random.random() < more % 1), tries), tries

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, exact."""
        return asdict(self)

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        return cls(**stored)


def _correlation(known: Sequence[Share], share: float) -> float:
    """By moments: Pearson's deviations exceed their number by (n - 1) rho each."""
    deviations = [(k - n * share) ** 2 / max(n * share * (1 - share), 1e-12) for k, n in known]
    cap = quantile(sorted(deviations), _CAP)
    surplus = sum(min(deviation, cap) for deviation in deviations) - (len(known) - 1)
    room = sum(max(n - 1, 0) for _, n in known)
    return min(max(surplus / room if room else 0.0, LEAST_RHO), 0.9)


def _log_beta_binomial(k: float, n: float, a: float, b: float) -> float:
    """Without the binomial coefficient, which every form has alike."""
    return (math.lgamma(k + a) - math.lgamma(a) + math.lgamma(n - k + b) - math.lgamma(b)
            - math.lgamma(n + a + b) + math.lgamma(a + b))


class RatioEvidence:
    """State of the test: likelihood-ratio bets on a multiple of the odds."""

    __slots__ = ("_bets", "_fit", "_recent", "seen")

    def __init__(self, fit: RatioFit, horizon: int) -> None:
        self._fit = fit
        self._bets = Bets(len(ODDS), horizon)
        self._recent: deque[Share] = deque(maxlen=_GATED)
        self.seen = 0

    def add(self, reading: Share) -> None:
        """Takes (events, tries) of one run in; a run without tries says nothing."""
        known = _clean(reading)
        if known is None:
            return
        self._bets.add(self._fit.factors(*known))
        self._recent.append(known)
        self.seen += 1

    def bet(self) -> float:
        """What 1 put on harm is worth now; of mean <= 1 without harm."""
        return max(sum(self._bets.holdings) / len(ODDS) + self._bets.reserve, 1e-9)

    def gated_bet(self) -> float:
        """The same while the recent odds are far enough above the old ones to matter."""
        return self.bet() if _odds(self._share(_GATED)) >= GATE * _odds(self._fit.share) else 1e-9

    def counted(self) -> float:
        """There is no test with a fixed budget."""
        return NEVER

    def reach(self) -> float:
        """The bet as a multiple of its need; 1 is an alarm of a lone signal."""
        return max(math.log(self.gated_bet()) / LONE_NEED, 0.0)

    def unsettled(self) -> bool:
        """True while the newest run is a bad one."""
        return bool(self._recent) and self._share(1) > max(self._fit.p95, self._fit.base)

    def calm(self) -> bool:
        """True when the newest runs' share is no more than the past explains, by one standard error."""
        newest = list(self._recent)[-_RECENT:]
        if len(newest) < _RECENT:
            return False
        fit, tries = self._fit, sum(n for _, n in newest)
        spread = sum(n * (1 + max(n - 1, 0) * fit.rho) for _, n in newest)
        return self._share(_RECENT) <= fit.share + math.sqrt(fit.base * (1 - fit.base) * spread / fit.temper) / tries

    def _share(self, runs: int) -> float:
        newest = list(self._recent)[-runs:]
        tries = sum(n for _, n in newest)
        return sum(k for k, _ in newest) / tries if tries else 0.0
