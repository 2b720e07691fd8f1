"""Paging held back for some probes, for a while, by somebody who said why. Probing, recording and judging go on."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import structlog

from monitor.clock import Clock, new_id
from monitor.health import Target
from monitor.incidents import Incident, concerned
from monitor.store import Store, records

log = structlog.get_logger()

RECENT_SECONDS = 7 * 86400.0       # so long a silence that is over is still listed


@dataclass(frozen=True, slots=True)
class Silence:
    """One silence. `probes` are names, or patterns such as "checkout-*"; times are Unix s."""

    id: str
    probes: tuple[str, ...]
    starts: float
    ends: float
    reason: str
    by: str
    ended: float | None = None     # by hand, before its time
    ended_by: str = ""

    def active(self, now: float) -> bool:
        return self.ended is None and now < self.ends

    def covers(self, probe: str) -> bool:
        return any(matches(name, probe) for name in self.probes)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def matches(name: str, probe: str) -> bool:
    """Is that the probe's name, or a pattern for it?"""
    return name == probe or fnmatchcase(probe, name)


class Silences:
    """All silences that hold or held lately, in memory as the store has them."""

    def __init__(self, store: Store, clock: Clock, targets: Iterable[Target]) -> None:
        self._store, self._clock, self._targets = store, clock, tuple(targets)
        self._known: dict[str, Silence] = {}

    async def load(self) -> None:
        """Take up what holds, and what held lately."""
        stored = await self._store.read(lambda c: records.silences(c, self._clock.now() - RECENT_SECONDS))
        self._known = {row["id"]: Silence(**row) for row in stored}

    def change(self, targets: Iterable[Target]) -> None:
        """Go on with other targets, after a reload; a silence whose probes are gone holds on, for they may come back."""
        self._targets = tuple(targets)

    async def add(self, probes: Sequence[str], seconds: float, reason: str, by: str) -> Silence:
        """Hold back the paging of these probes for so long. Raises StoreError."""
        now = self._clock.now()
        silence = Silence(new_id(now), tuple(probes), now, now + seconds, reason, by)
        await self._keep(silence)
        log.info("silenced", silence=silence.id, probes=list(silence.probes), seconds=seconds, by=by, reason=reason)
        return silence

    async def end(self, id_: str, by: str) -> Silence | None:
        """End a silence before its time; None when it does not hold (any more). Raises StoreError."""
        now, silence = self._clock.now(), self._known.get(id_)
        if silence is None or not silence.active(now):
            return None
        ended = replace(silence, ended=now, ended_by=by)
        await self._keep(ended)
        log.info("silence ended", silence=id_, by=by)
        return ended

    def recent(self) -> list[Silence]:
        """Those that hold, and those that held within the last week; newest first."""
        oldest = self._clock.now() - RECENT_SECONDS
        return sorted((s for s in self._known.values() if (s.ended or s.ends) >= oldest), key=lambda s: s.id, reverse=True)

    def names(self, silence: Silence) -> list[str]:
        """The probes that a silence covers as the configuration is now."""
        return sorted({target[0] for target in self._targets if silence.covers(target[0])})

    def unknown(self, probes: Iterable[str]) -> list[str]:
        """Those names and patterns that no probe has."""
        known = {target[0] for target in self._targets}
        return [name for name in probes if not any(matches(name, probe) for probe in known)]

    def muted(self, incident: Incident, now: float) -> bool:
        """Is all silenced that the incident is about? One probe that is not silenced is enough to be told."""
        active = [silence for silence in self._known.values() if silence.active(now)]
        probes = concerned(incident) if active else set()
        return bool(probes) and all(any(silence.covers(probe) for silence in active) for probe in probes)

    def targets(self, now: float) -> set[Target]:
        """The targets that are silenced."""
        active = [silence for silence in self._known.values() if silence.active(now)]
        return {target for target in self._targets if any(silence.covers(target[0]) for silence in active)} if active else set()

    async def _keep(self, silence: Silence) -> None:
        await self._store.write(lambda c: records.save_silence(c, silence.to_dict()), essential=True)
        self._known[silence.id] = silence
