"""What holds a checkout probe back: so many runs a day, one order a run, and the orders that are not yet cancelled. Pure.

The count and the orders travel in the sample's checkpoint, so that a restart neither begins to count anew nor forgets an order. A run whose sample
never came, since the daemon was killed, is known by the guard alone: what it may have ordered is told by later runs.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, Self

MOST_ORDERS = 200          # that wait to be cancelled; with so many no further one is placed
MOST_LOST = 20             # runs of which it is not known what they ordered
_DAY = 86_400.0
_TOLD = 7 * _DAY           # s for which these are told
_LONGEST = 64              # characters of an order's number, and of a run's name
_LARGEST = 100_000         # bytes of a checkpoint that is read
_ONCE = "this run has submitted already, and does so once only"

Target = tuple[str, str, str]          # probe, device, cohort


class Guard(Protocol):
    """Asked before the click that places an order."""

    async def take(self, target: Target, run: str, cycle: float) -> str:
        """Record that this run submits now; `cycle` is the interval of its probe in s. "" when it may, else why not, in words."""

    async def after(self, target: Target, run: str) -> Mapping[str, float]:
        """The runs that were recorded after this one ("": all), the oldest first, and when (Unix s). None if this one is not remembered."""


class OneRun:
    """For runs by hand: each submits once, remembered for as long as the process lives."""

    def __init__(self) -> None:
        self._taken: set[tuple[Target, str]] = set()

    async def take(self, target: Target, run: str, cycle: float) -> str:  # noqa: ARG002 - whoever starts it by hand decides when
        """As a `Guard`."""
        if (target, run) in self._taken:
            return _ONCE
        self._taken.add((target, run))
        return ""

    async def after(self, target: Target, run: str) -> Mapping[str, float]:  # noqa: ARG002 - none is lost but with this process
        """As a `Guard`."""
        return {}


@dataclass(slots=True)
class Limits:
    """What a probe has done so far. `day` counts from 1970, in UTC; `dropped` orders were too many to be remembered."""

    day: int = 0
    runs: int = 0                    # on that day
    orders: list[str] = field(default_factory=list)        # the oldest first
    dropped: int = 0
    submitted: str = ""              # the last run that asked whether it may submit and whose sample came
    lost: dict[str, float] = field(default_factory=dict)   # runs that may have ordered nobody knows what, and when (Unix s)

    @classmethod
    def decode(cls, data: bytes | None) -> Self:
        """From a checkpoint. What cannot be read counts as nothing done."""
        try:
            stored = json.loads(data) if data and len(data) <= _LARGEST else {}
        except (ValueError, RecursionError):
            return cls()
        if not isinstance(stored, dict):
            return cls()
        orders, lost = stored.get("orders"), stored.get("lost")
        found = cls(_count(stored.get("day")), _count(stored.get("runs")), [], _count(stored.get("dropped")), _text(stored.get("submitted")))
        found.owe(order for order in (orders if isinstance(orders, list) else ()) if isinstance(order, str))
        found.miss({_text(run): _count(at, 10**11) for run, at in lost.items()} if isinstance(lost, dict) else {})
        return found

    def encode(self) -> bytes:
        """The checkpoint."""
        stored = {"day": self.day, "runs": self.runs, "orders": self.orders, "dropped": self.dropped, "submitted": self.submitted,
                  "lost": {run: int(at) for run, at in self.lost.items()}}
        return json.dumps(stored, separators=(",", ":")).encode()

    def take(self, now: float, most_per_day: int) -> bool:
        """Count a run that begins `now` (Unix s); False when there have been `most_per_day` on this day of UTC, and then none is counted."""
        today = int(now // _DAY)
        runs = self.runs if today == self.day else 0
        if runs >= most_per_day:
            return False
        self.day, self.runs = today, runs + 1
        return True

    def give_back(self) -> None:
        """The run that was counted last did not get as far as the shop."""
        self.runs = max(0, self.runs - 1)

    @property
    def full(self) -> bool:
        """Whether so many orders wait to be cancelled that no further one may be placed."""
        return len(self.orders) >= MOST_ORDERS

    def owe(self, orders: Iterable[str]) -> None:
        """Remember orders that were placed, each once. When there are too many the oldest are dropped, and counted."""
        known = dict.fromkeys(self.orders) | dict.fromkeys(filter(None, map(_text, orders)))
        self.dropped += max(0, len(known) - MOST_ORDERS)
        self.orders = list(known)[-MOST_ORDERS:]

    def miss(self, runs: Mapping[str, float], now: float = 0.0) -> None:
        """Remember runs, and when they submitted, whose orders nobody knows: the newest of the week before `now` (both Unix s)."""
        known = {run: at for run, at in {**self.lost, **runs}.items() if at > now - _TOLD}
        self.lost = dict(sorted(known.items(), key=lambda one: one[1])[-MOST_LOST:])

    def settle(self, left: Iterable[str]) -> None:
        """After cancelling: of those that are remembered only these are still there."""
        still = set(left)
        self.orders = [order for order in self.orders if order in still]


def _count(value: Any, below: int = 10**9) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < below else 0


def _text(value: Any) -> str:
    """One line of bounded length that can be stored."""
    return " ".join(value.encode("utf-8", "replace").decode().split())[:_LONGEST] if isinstance(value, str) else ""
