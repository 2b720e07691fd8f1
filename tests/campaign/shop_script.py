"""When which page of the campaign's shop fails, and how: all from one seed. Pure."""

import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

PROBES = tuple(f"page-{number:02}" for number in range(20))
HOSTS = tuple(f"127.0.0.{number}" for number in range(1, 6))
FINE, FAILING = (1.5, 5.0), (1.0, 4.0)      # s that a spell lasts

FAR = 1e9                  # s; the script ends before

Spell = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Script:
    """Spells of failing by probe, s since the opening, without overlap and in order. Before, between and after them all is well."""

    spells: Mapping[str, Sequence[Spell]]

    def fails(self, probe: str, at: float) -> bool:
        spells = self.spells[probe]
        before = bisect_right(spells, (at, float("inf"))) - 1
        return before >= 0 and at < spells[before][1]

    def until(self, end: float, of: str = "") -> "Script":
        """The same, with all well from `end` on; or one probe."""
        return Script({probe: spells if of and probe != of else [(a, min(b, end)) for a, b in spells if a < end]
                       for probe, spells in self.spells.items()})

    def broken(self, probe: str, begin: float) -> "Script":
        """The same, with one probe failing from `begin` on."""
        return Script({**self.spells, probe: [*self.spells[probe], (begin, FAR)]})


def written(seed: int, seconds: float) -> Script:
    """A script for so long."""
    chance = random.Random(seed)
    return Script({probe: _spells(chance, seconds) for probe in PROBES})


def _spells(chance: random.Random, seconds: float) -> list[Spell]:
    spells, at = [], chance.uniform(*FINE)
    while at < seconds:
        end = at + chance.uniform(*FAILING)
        spells.append((at, end))
        at = end + chance.uniform(*FINE)
    return spells


def host(probe: str) -> str:
    """Four probes live on each host."""
    return HOSTS[PROBES.index(probe) % len(HOSTS)]


def urgency(probe: str) -> str:
    """Of the probes of a host some are worth a ticket, so that an incident gets worse when a page joins it."""
    return "ticket" if PROBES.index(probe) // len(HOSTS) % 2 else "page"


def by_status(probe: str) -> bool:
    """Does it fail with a 500, which is one story per host, or with another text, which is a story of its own?"""
    return PROBES.index(probe) // len(HOSTS) < 2
