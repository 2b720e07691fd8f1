"""Test of error signatures: is there something that was never seen before, and does it stay? (detection.md 2.4)

New is not rare: on real logs one minute in three holds a signature that was never seen. So a new one is always shown, but
alarms only when new ones come faster than they used to, or one of them keeps coming back as new ones of the past did not.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from random import Random
from typing import Any, ClassVar, Self

from monitor.judge.latency import LEAST_TIMED
from monitor.judge.sequential import LONE_NEED
from monitor.judge.success import SuccessEvidence, SuccessFit

MOST_KNOWN = 2000                 # signatures of the past that are remembered, as hashes; the newest stay
MOST_NEW = 200                    # new signatures that are watched; later ones only count as something new
MOST_A_RUN = 500                  # signatures of one run that are read
FORGOTTEN = 60                    # runs after which a new signature that did not come back is given up
_GONE = 10                        # runs without any of the new ones that are calm again
LEAST_SEEN = 3                    # events of a new signature before it may page
HEAVY = ("critical:", "error:", "changed:")    # beginnings of signatures with the full stake; others have a quarter
NOTED = ("noted:", "changed:noted:")           # beginnings of what is to be known and no harm by itself: a new third party, another inline script
_LIGHT = 0.25
_STRICTER = math.log(3)           # nats by which the count of runs with something new needs more: a third of its slice
_PAUSE = 100                      # quiet runs put before the past's new signatures: what came back never is still no 0 %

Signatures = Mapping[str, float]


def short(signature: str) -> str:
    """The hash under which a signature is remembered."""
    return blake2b(signature.encode("utf-8", "replace"), digest_size=6).hexdigest()


def _read(reading: Signatures) -> list[tuple[str, float]]:
    """(signature, events) of a run, without what no count can be and what is no error."""
    kept = [(name, count) for name, count in reading.items() if math.isfinite(count) and count > 0 and not name.startswith(NOTED)]
    return kept[:MOST_A_RUN]


def _is_ok(event: bool) -> float:
    """The reading of a run in terms of SuccessFit."""
    return 0.0 if event else 1.0


@dataclass(frozen=True, slots=True)
class NoveltyFit:
    """What was logged before, how often something new came, and whether new ones came back."""

    least: ClassVar[int] = 90
    needs_warm_up: ClassVar[bool] = False
    optimism: ClassVar[float] = 0.0

    count: int                    # runs
    known: tuple[str, ...]        # hashes, sorted
    new: int                      # signatures that were new in the newer half of the past
    births: SuccessFit            # runs with something new, as if they had failed
    returns: SuccessFit           # runs in which a signature came back that was new a short time ago, as if they had failed
    stretch: float = 1.0

    @classmethod
    def of(cls, readings: Sequence[Signatures]) -> Self | None:
        """Fits signatures per run, oldest first; None when the runs are too few.

        The older half only tells what is known; the newer one, how often that grows.
        """
        if len(readings) < LEAST_TIMED:
            return None
        past = _Past(len(readings) // 2)
        for reading in readings:
            past.add(_read(reading))
        births = SuccessFit.of([_is_ok(born) for born in past.births])
        births = replace(births, onset=max(births.onset, _unseen(past.events, len(readings)), _usual(past.births)))
        known = tuple(sorted(list(past.events)[-MOST_KNOWN:]))
        return cls(len(readings), known, past.new, births, SuccessFit.of(past.returns()))

    def stretched(self, by: float) -> Self:
        """The same fit with this placebo stretch."""
        return replace(self, stretch=by, births=self.births.stretched(by), returns=self.returns.stretched(by))

    def start(self, horizon: int) -> "NoveltyEvidence":
        """The test, before its first sample."""
        return NoveltyEvidence(self, horizon)

    @staticmethod
    def worsened(reading: Signatures, by: float, random: Random) -> dict[str, float]:
        """The reading of a shop with a new error in the share `by` of its runs."""
        return {**reading, **({"error:new": 1.0} if random.random() < by else {})}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, exact."""
        return asdict(self) | {"known": list(self.known)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Self:
        """What `to_dict` gave."""
        chains = {name: SuccessFit.from_dict(stored[name]) for name in ("births", "returns")}
        return cls(**{**stored, "known": tuple(stored["known"]), **chains})


def _unseen(events: Mapping[str, float], runs: int) -> float:
    """How likely a run has something new: an event is new with the probability of the share of those seen once (Good, Turing)."""
    once, total = sum(1 for count in events.values() if count == 1), sum(events.values())
    return min((once + 0.5) / (total + 1) * total / runs, 0.9)


def _usual(births: Sequence[bool]) -> float:
    """The share of runs with something new, and one standard error. SuccessFit would shrink it: it expects rare events."""
    share = (sum(births) + 0.5) / (len(births) + 1)
    return min(share + math.sqrt(share * (1 - share) / len(births)), 0.9)


class _Past:
    """Goes through a past run by run, as a watch would."""

    def __init__(self, learning: int) -> None:
        self._left = learning                      # runs that only tell what is known
        self.events: Counter[str] = Counter()      # by hash, those seen last at the end
        self.births: list[bool] = []               # of the runs after that: something new?
        self.new = 0
        self._young: dict[str, list[bool]] = {}    # whether a new one came back, in each of the FORGOTTEN runs after it
        self._grown: list[list[bool]] = []

    def add(self, run: Sequence[tuple[str, float]]) -> None:
        """One more run."""
        here = Counter({short(name): count for name, count in run})
        for name, came in list(self._young.items()):
            came.append(name in here)
            if len(came) > FORGOTTEN:
                self._grown.append(self._young.pop(name))
        new = [name for name in here if name not in self.events]
        for name, count in here.items():
            self.events[name] = self.events.pop(name, 0) + count      # put at the end
        if self._left > 0:
            self._left -= 1
            return
        self.births.append(bool(new))
        self.new += len(new)
        self._young |= {name: [True] for name in new[:max(MOST_NEW - len(self._young) - len(self._grown), 0)]}

    def returns(self) -> list[float]:
        """All of those series, one after the other, as readings of SuccessFit."""
        series = [*self._grown, *self._young.values()]
        return [1.0] * _PAUSE + [_is_ok(came) for one in series for came in one]


class _New:
    """One signature that was not there before the update."""

    __slots__ = ("absent", "events", "returns", "stake")

    def __init__(self, returns: SuccessEvidence, stake: float, events: float) -> None:
        self.returns, self.stake, self.events, self.absent = returns, stake, events, 0


class NoveltyEvidence:
    """State of the test: bets on runs with something new, and on each new signature that it comes back.

    Half of the money is on the former. Of the other half the k-th new signature gets 1 / (k (k + 1)), a quarter of that when
    it is not HEAVY, whatever their number; what was not staked stays. So the mean stays <= 1 without harm.
    """

    __slots__ = ("_births", "_fit", "_horizon", "_known", "_new", "_reserve", "news", "seen")

    def __init__(self, fit: NoveltyFit, horizon: int) -> None:
        self._fit, self._horizon = fit, horizon
        self._known = frozenset(fit.known)
        self._births = fit.births.start(horizon)
        self._new: dict[str, _New] = {}
        self._reserve = 1.0
        self.news: dict[str, float] = {}           # events of the newest run that the past did not have, by signature
        self.seen = 0

    def add(self, reading: Signatures) -> None:
        """Takes the signatures of one run in."""
        self.news = {name: count for name, count in _read(reading) if short(name) not in self._known}
        self._births.add(_is_ok(any(name not in self._new for name in self.news)))
        for name, new in self._new.items():
            came = name in self.news
            new.absent = 0 if came else new.absent + 1
            if new.absent < FORGOTTEN:
                new.returns.add(_is_ok(came))
                new.events += self.news.get(name, 0.0)
        for name, count in self.news.items():
            if name not in self._new and len(self._new) < MOST_NEW:
                self._new[name] = self._begin(name, count)
        self.seen += 1

    def _begin(self, name: str, count: float) -> _New:
        """That it is there now says nothing of its return: the bet goes on from here, at the worth of the stake."""
        returns = self._fit.returns.start(self._horizon)
        returns.add(_is_ok(True))
        return _New(returns, self._stake(name) / returns.bet(), count)

    def _stake(self, name: str) -> float:
        place = len(self._new) + 1
        stake = (1.0 if name.startswith(HEAVY) else _LIGHT) / (place * (place + 1))
        self._reserve -= stake
        return stake

    def bet(self) -> float:
        """What 1 put on harm is worth now; of mean <= 1 without harm."""
        return 0.5 * self._births.bet() + 0.5 * (self._reserve + self._worth(0))

    def gated_bet(self) -> float:
        """The same without the signatures that were hardly seen."""
        many = sum(new.events for new in self._new.values()) >= LEAST_SEEN
        return max((0.5 * self._births.gated_bet() if many else 0.0) + 0.5 * self._worth(LEAST_SEEN), 1e-9)

    def _worth(self, least: int) -> float:
        return sum(new.stake * new.returns.bet() for new in self._new.values()
                   if new.absent < FORGOTTEN and new.events >= least)

    def counted(self) -> float:
        """Nats by which the count of bursts of runs with something new is past its need."""
        return self._births.counted() - _STRICTER

    def reach(self) -> float:
        """The strongest of the tests as a multiple of its need; 1 is an alarm of a lone signal."""
        return max(math.log(self.gated_bet()) / LONE_NEED, self._births.reach() / (1 + _STRICTER / LONE_NEED), 0.0)

    def unsettled(self) -> bool:
        """True while the newest run had something that was not known before."""
        return bool(self.news)

    def calm(self) -> bool:
        """True when nothing new came for as long as it takes to call the runs normal."""
        return self._births.calm() and all(new.absent >= _GONE for new in self._new.values())
