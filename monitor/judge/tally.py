"""What many replayed updates say together: shares with their intervals, and how long it took. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from monitor.judge.backtest import HARMS, Down, End, Replayed
from monitor.judge.distributions import wilson

WEEK = 7 * 86400.0
ONE_A_DAY = 7.0             # updates a week, when the history knows of none
_Z = 1.96                   # 95 %


@dataclass(frozen=True, slots=True)
class Share:
    """`hits` of `of`, as a share with Wilson's 95 % interval. No hits in n leave up to 3.8 / (n + 3.8)."""

    hits: int
    of: int

    @property
    def share(self) -> float | None:
        return self.hits / self.of if self.of else None

    @property
    def bounds(self) -> tuple[float, float]:
        return wilson(self.hits, self.of, _Z) if self.of else (0.0, 1.0)

    def to_dict(self) -> dict[str, Any]:
        lower, upper = self.bounds
        return {"hits": self.hits, "of": self.of, "share": self.share, "lower": lower, "upper": upper}


@dataclass(frozen=True, slots=True)
class Took:
    """Medians over those that came to it; None when none did."""

    runs: float | None
    seconds: float | None

    @classmethod
    def of(cls, ends: Sequence[End], *, after_finish: bool = False) -> "Took":
        if not ends:
            return cls(None, None)
        return cls(median(end.runs for end in ends), median(end.after_finish if after_finish else end.seconds for end in ends))


@dataclass(frozen=True, slots=True)
class Found:
    """How one kind of harm fared: found by the judge, paged as an outage by the health rule, or passed."""

    harm: str
    words: str
    found: Share
    took: Took
    down: Share
    down_seconds: float | None
    passed: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "harm": self.harm, "says": self.words, "found": self.found.to_dict(), "median_runs": self.took.runs, "median_seconds": self.took.seconds,
            "outage_paged": self.down.to_dict(), "outage_median_seconds": self.down_seconds, "passed": self.passed,
        }


@dataclass(frozen=True, slots=True)
class Tally:
    """All of it. `false` holds the harmless updates that were called a regression, `weeks` the length of the history."""

    replayed: int
    disturbed: Share                   # of the updates in whose time something was wrong: called a regression
    regressions: Share                 # of the harmless ones
    passes: Share
    pass_took: Took                    # seconds from finish, runs from the start
    inconclusive: Mapping[str, int]    # by reason
    outages: Share                     # updates during which the health rule paged
    outages_told: int                  # in the whole history
    weeks: float
    updates_a_week: float
    harms: tuple[Found, ...]
    false: tuple[Replayed, ...]
    shortest_past: int

    @property
    def outages_a_week(self) -> float:
        return self.outages_told / self.weeks if self.weeks else 0.0

    @property
    def pages_a_week(self) -> float:
        """With as many updates a week as this shop has."""
        return self.outages_a_week + (self.regressions.share or 0.0) * self.updates_a_week

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; all times in s."""
        return {
            "updates": self.replayed, "shortest_past_runs": self.shortest_past,
            "regressions": self.regressions.to_dict(),
            "passes": self.passes.to_dict() | {"median_runs": self.pass_took.runs, "median_seconds_after_finish": self.pass_took.seconds},
            "inconclusive": dict(self.inconclusive), "disturbed": self.disturbed.to_dict(),
            "outages": self.outages.to_dict() | {"told": self.outages_told, "per_week": self.outages_a_week},
            "pages_per_week": self.pages_a_week, "weeks": self.weeks, "updates_per_week": self.updates_a_week,
            "harms": [found.to_dict() for found in self.harms],
            "false_regressions": [{"shop": one.shop, "at": one.at, **asdict(one.harmless)} for one in self.false],
        }


def tally(replays: Sequence[Replayed], downs: Sequence[Sequence[Down]], weeks: float, updates_a_week: float | None = None) -> Tally:
    """`downs` are all outages of each shop, `weeks` the length of all histories. Raises ValueError when nothing was replayed."""
    quiet = [one for one in replays if not one.disturbed]
    ends = [one.harmless for one in quiet]
    passed = [end for end in ends if end.verdict == "pass"]
    false = tuple(one for one in quiet if one.harmless.verdict == "regression")
    upset = [one for one in replays if one.disturbed]
    return Tally(
        replayed=len(replays),
        disturbed=Share(sum(one.harmless.verdict == "regression" for one in upset), len(upset)),
        regressions=Share(len(false), len(quiet)),
        passes=Share(len(passed), len(quiet)),
        pass_took=Took.of(passed, after_finish=True),
        inconclusive=Counter(end.reason for end in ends if end.verdict == "inconclusive"),
        outages=Share(sum(one.harmless.told_down is not None for one in replays), len(replays)),
        outages_told=sum(map(told_together, downs)),
        weeks=weeks,
        updates_a_week=ONE_A_DAY if updates_a_week is None else updates_a_week,
        harms=tuple(_found(harm.name, harm.words, [one.harmed[harm.name] for one in quiet]) for harm in HARMS),
        false=false,
        shortest_past=min(one.past for one in replays),
    )


def told_together(downs: Sequence[Down]) -> int:
    """Outages that last at the same time are one incident."""
    count, until = 0, 0.0
    for down in sorted(downs, key=lambda down: down.told):
        count += down.told > until
        until = max(until, down.until)
    return count


def _found(name: str, words: str, ends: Sequence[End]) -> Found:
    found = [end for end in ends if end.verdict == "regression"]
    down = [end.told_down for end in ends if end.told_down is not None]
    passed = sum(end.verdict == "pass" for end in ends)
    return Found(name, words, Share(len(found), len(ends)), Took.of(found), Share(len(down), len(ends)), median(down) if down else None, passed)
