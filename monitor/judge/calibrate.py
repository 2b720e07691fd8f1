"""Measures, on a target's own past, how easily its tests alarm without cause, and how surely they alarm with one.

Both replay the very tests that judge: the *placebo stretch* on windows of the past in which nothing was updated, the
*power* on a past that is shuffled in blocks and worsened by the margin.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from random import Random

from monitor.judge.evidence import Fit, strength
from monitor.judge.sequential import SHORTEST_HORIZON
from monitor.judge.success import OUTAGE

PLACEBO_WINDOWS = 20
PLACEBO_PAST = 1300               # runs further back are another shop
LARGEST_STRETCH = 1.5
POWER_WANTED = 0.80
POWER_HORIZON = 240               # samples, unless told otherwise: 2 h at 30 s
# Nats for which the power is measured: near ln 2, 3, 4, 6, 8, 10, 20 signals, and beyond.
HANDICAPS = (0.0, 0.4, 0.7, 1.1, 1.4, 1.8, 2.1, 2.4, 3.0, 3.7, 4.5, 6.0, 8.0)
REPLAYS = 50
_BLOCK = 8                        # neighbours stay together, so that what lasts in the past lasts in the replay
_HOPELESS = 20                    # replays after which a power that cannot be reached is given up

# Per handicap, the samples after which the replays alarmed, ascending; those that did not are left out.
Power = tuple[tuple[int, ...], ...]


def has_outage(oks: Sequence[bool]) -> bool:
    """True when OUTAGE runs or more in a row failed: such a window is unfit as a placebo."""
    failures = 0
    for ok in oks:
        failures = 0 if ok else failures + 1
        if failures >= OUTAGE:
            return True
    return False


def placebo_reach(fit: Fit, window: Sequence[float | None]) -> float:
    """How near to an alarm an update-free window came, as a multiple of a lone signal's need."""
    evidence = fit.start(SHORTEST_HORIZON)
    highest = 0.0
    for reading in window:
        if reading is not None:
            evidence.add(reading)
            highest = max(highest, evidence.reach())
    return highest


def stretch(reaches: Sequence[float]) -> float:
    """What multiplies the need of an alarm, 1 to LARGEST_STRETCH: the second highest placebo of ten or more, else the highest."""
    if len(reaches) < 3:
        return 1.0
    highest = sorted(reaches, reverse=True)
    return min(max(highest[0] if len(reaches) < 10 else highest[1], 1.0), LARGEST_STRETCH)


def usual(peaks: Sequence[float]) -> float:
    """What was reached after one harmless update and after another: the second highest; 0 when there were not two."""
    return sorted(peaks, reverse=True)[1] if len(peaks) >= 2 else 0.0


def placebo_cuts(runs: int) -> range:
    """Where placebo windows may begin in a past of `runs`: back from its end, with 100 runs before to fit to."""
    newest = runs - SHORTEST_HORIZON
    last = max(100, runs - PLACEBO_PAST, newest - (PLACEBO_WINDOWS - 1) * SHORTEST_HORIZON)
    return range(newest, last - 1, -SHORTEST_HORIZON)


def power(fit: Fit, past: Sequence[float], margin: float, horizon: int, seed: int) -> Power:
    """When the tests would alarm, had the signal got worse by `margin`: one ascending row per handicap.

    `past` is in the order of time. Seeded: the same past gives the same power.
    """
    random = Random(seed)  # noqa: S311  (a simulation that has to be repeatable)
    rows: list[list[int]] = [[] for _ in HANDICAPS]
    for replay in range(REPLAYS):
        if replay == _HOPELESS and len(rows[0]) < _HOPELESS * 0.4:
            break
        for row, count in zip(rows, _first_alarms(fit, past, margin, horizon, random), strict=False):
            row.append(count)
    return tuple(tuple(sorted(row)) for row in rows)


def _first_alarms(fit: Fit, past: Sequence[float], margin: float, horizon: int, random: Random) -> list[int]:
    """After how many samples one replay alarmed, by handicap, as far as it got."""
    evidence = fit.start(horizon)
    found: list[int] = []
    for count, reading in enumerate(_shuffled(past, horizon, random), 1):
        evidence.add(fit.worsened(reading, margin, random))
        nats = strength(evidence, fit.stretch)
        while len(found) < len(HANDICAPS) and nats >= HANDICAPS[len(found)]:
            found.append(count)
        if len(found) == len(HANDICAPS):
            break
    return found


def _shuffled(past: Sequence[float], horizon: int, random: Random) -> Iterator[float]:
    """About `horizon` readings in blocks from random places of the past, which closes on itself."""
    for _ in range(horizon // _BLOCK):
        begin = int(random.random() * len(past))
        for place in range(begin, begin + _BLOCK):
            yield past[place % len(past)]


def _row(measured: Power, handicap: float) -> tuple[int, ...]:
    """The row of the next larger handicap that was measured: never too good."""
    level = bisect_left(HANDICAPS, handicap - 1e-9)
    return measured[level] if level < len(measured) else ()


def power_at(measured: Power, handicap: float, samples: int) -> float:
    """Probability that the tests had alarmed by now if the signal had got worse by its margin."""
    return bisect_right(_row(measured, handicap), samples) / REPLAYS


def samples_needed(measured: Power, handicap: float, optimism: float) -> int | None:
    """Samples after which `power_at` is POWER_WANTED and more by `optimism`; None when the replays' horizon does not do."""
    row, place = _row(measured, handicap), math.ceil((POWER_WANTED + optimism) * REPLAYS) - 1
    return row[place] if place < len(row) else None
