"""What every test shares: how much evidence an alarm needs, bets over unknown onsets, and the counting of bursts.

One currency: *nats past the need*. A test says by how many nats it is past what a lone signal with the whole
false-alarm budget needs; a signal with a smaller part of that budget needs ln(1 / part) more (its handicap).
"""

import math
from collections.abc import Sequence
from functools import lru_cache

from monitor.judge.distributions import log_negative_binomial_tail

NOMINAL = 0.03                    # Ville's level of the bets; gates, tempering and placebos bring it to <= 1 % measured
NOMINAL_RATE = 0.01               # the measured false-alarm rate which NOMINAL and the slices below were found to give
THRESHOLD = math.log(1 / NOMINAL)
LONE_WEIGHT = 0.5                 # weight of a signal when its target is the only one and has one other signal
LONE_NEED = THRESHOLD + math.log(1 / LONE_WEIGHT)
NEVER = -math.inf
SHORTEST_HORIZON = 60             # samples; the length of a placebo window too
_AT_ONCE = 0.6                    # belief that a harm begins with the update's first sample
_CEILING = 1e200                  # evidence beyond is the same, and a float must hold it


@lru_cache(maxsize=64)
def onset_beliefs(horizon: int) -> tuple[float, ...]:
    """Belief that a harm begins at sample 1, 2, ... `horizon`; sums to at most 1.

    0.4 / 60 each for the first 60 when that is all. A longer watch gives half of that 0.4 away to the later samples,
    the same to every doubling of the length: the late ones stay within reach, the early ones lose 0.7 nats.
    """
    later = 1 - _AT_ONCE
    ends = [SHORTEST_HORIZON]
    while ends[-1] < horizon:
        ends.append(ends[-1] * 2)
    shares = [later] if len(ends) == 1 else [later / 2] + [later / 2 / (len(ends) - 1)] * (len(ends) - 1)
    beliefs = [_AT_ONCE] + [shares[0] / SHORTEST_HORIZON] * (SHORTEST_HORIZON - 1)
    for begin, end, share in zip(ends, ends[1:], shares[1:], strict=False):
        beliefs += [share / (end - begin)] * (end - begin)
    return tuple(beliefs[:max(horizon, SHORTEST_HORIZON)])


class Bets:
    """Money put on several forms of harm at every onset: a weighted mean of martingales while nothing has changed.

    `factors` of a sample have mean <= 1 without harm. A_t = (A_{t-1} + belief_t) * factor_t per form of harm;
    `reserve` is the money kept for later onsets.
    """

    __slots__ = ("_beliefs", "holdings", "reserve", "seen")

    def __init__(self, forms: int, horizon: int) -> None:
        self._beliefs = onset_beliefs(horizon)
        self.holdings = [0.0] * forms
        self.reserve = 1.0
        self.seen = 0

    def add(self, factors: tuple[float, ...]) -> None:
        """Settles the bets of one sample."""
        belief = self._beliefs[self.seen] if self.seen < len(self._beliefs) else 0.0
        self.seen += 1
        self.reserve -= belief
        self.holdings = [(held + belief) * factor for held, factor in zip(self.holdings, factors, strict=True)]
        if max(self.holdings) > _CEILING:
            self.holdings = [min(held, _CEILING) for held in self.holdings]


@lru_cache(maxsize=64)
def burst_horizons(horizon: int) -> tuple[tuple[int, float], ...]:
    """The lengths over which bursts are counted, and the part of the slice that each has.

    15, 30, 60, and doubling from there until `horizon` is covered; a longer watch takes 2/5 away from the first three,
    however long it is, so that early harm stays as easy to see.
    """
    ends = [15, 30, SHORTEST_HORIZON]
    while ends[-1] < horizon:
        ends.append(ends[-1] * 2)
    later = len(ends) - 3
    parts = [0.6 / 3] * 3 + [0.4 / later] * later if later else [1 / 3] * 3
    return tuple(zip(ends, parts, strict=True))


def longer_watch(horizon: int, measured: int) -> float:
    """Nats by which a watch of `horizon` samples asks for more than one of `measured`, after sample 60."""
    return max(math.log(burst_horizons(measured)[-1][1] / burst_horizons(horizon)[-1][1]), 0.0)


class Bursts:
    """Counts bursts of a rare event. Events cluster, bursts of them hardly do; so a burst of any length counts once.
    One is over after more than `gap` samples without the event (runs declustering, as extreme values are counted).

    `before` bursts in `samples` of the baseline give a Gamma(before + 1/2, samples) posterior of their rate: the finite
    baseline is in the formula. P(K >= k) has to fall below its slice of the false-alarm budget, split over the
    horizons; the count only grows, so looking after every sample is free within a horizon (detection.md 9).
    """

    __slots__ = ("_before", "_look", "_looks", "_samples", "_slice", "bursts", "gap", "inside", "log_tail", "quiet", "seen")

    def __init__(self, before: int, samples: int, slice_: float, horizon: int, gap: int = 0) -> None:
        self._before, self._samples, self._slice, self.gap = before, samples, slice_, gap
        self.quiet = gap + 1       # samples since the event was last seen
        self._looks = burst_horizons(horizon)
        self.inside = False        # the newest sample had the event
        self._look = 0
        self.seen = self.bursts = 0
        self.log_tail = 0.0        # ln P(K >= bursts); 0 while there are fewer than two

    def add(self, event: bool) -> None:
        """One more sample, with the event or without."""
        self.seen += 1
        late = self._look + 1 < len(self._looks) and self.seen > self._looks[self._look][0]
        begins = event and self.quiet > self.gap
        self.inside, self.quiet = event, 0 if event else self.quiet + 1
        self._look += late
        self.bursts += begins
        if late or begins:
            self._weigh()

    def _weigh(self) -> None:
        if self.bursts >= 2:
            ahead = self._looks[self._look][0]
            self.log_tail = log_negative_binomial_tail(self.bursts, self._before + 0.5, self._samples, ahead)

    def past(self, stretch: float) -> float:
        """Nats past the need (negative: still to go), the evidence divided by the placebo stretch."""
        return -self.log_tail / stretch - self._need() if self.bursts >= 2 else NEVER

    def reach(self) -> float:
        """Evidence as a multiple of the need."""
        return -self.log_tail / self._need()

    def _need(self) -> float:
        return -math.log(self._slice * self._looks[self._look][1])


def count_bursts(events: Sequence[bool], gap: int = 0) -> int:
    """Bursts in `events`, as `Bursts` counts them."""
    found, quiet = 0, gap + 1
    for event in events:
        found += event and quiet > gap
        quiet = 0 if event else quiet + 1
    return found
