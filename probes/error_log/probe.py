"""One run of an error_log probe: what was logged since the run before, counted.

Nothing is remembered here but what can be read again: the checkpoint holds the positions in the files, or the journal's cursor, and
which signatures are known. It is committed with the counts, so that each line counts once, whatever is killed when.
"""

import time

from probes.clients import Clients
from probes.error_log.event import LEVELS
from probes.error_log.memory import Memory
from probes.error_log.scan import Scanner
from probes.error_log.settings import ErrorLogSettings
from probes.error_log.sources import Files, Found, Scanners, Units
from probes.error_log.tail import Tail
from probes.reasons import outcome
from probes.sample import Sample
from probes.scrub import scrub

_NAMED = 3                # files that are named when they cannot be read


async def probe(settings: ErrorLogSettings, clients: Clients, checkpoint: bytes | None = None) -> Sample:
    """What was logged since `checkpoint`; without one, from now on (or from the beginning, see `begin`).

    *Broken* while nothing that is to be followed can be read; *failed* only by `max_events`. `counts` are those of `Tally.counts` and
    `new_signatures`, `examples` a line for each of the latter.
    """
    following = await clients.keep(settings.name, settings, lambda: Following(settings))
    return await following.run(checkpoint)


class Following:
    """What stays open between the runs of one probe. It could be thrown away at any time."""

    def __init__(self, settings: ErrorLogSettings) -> None:
        self._settings = settings
        self._source = _source(settings)

    async def run(self, checkpoint: bytes | None) -> Sample:
        """One run from this checkpoint on."""
        begun, memory = time.monotonic(), Memory.decode(checkpoint)
        found = await self._source.read(memory.place)
        return self._sample(found, memory, time.monotonic() - begun)

    async def close(self) -> None:
        """Let go of descriptors and the child."""
        await self._source.close()

    def _sample(self, found: Found, memory: Memory, seconds: float) -> Sample:
        counts, new = found.tally.counts(), memory.learn(found.tally.signatures)
        reason, evidence = self._reason(found, new)
        memory.place = found.place
        return Sample(
            probe=self._settings.name, cohort=self._settings.cohort, outcome=outcome(reason), reason=reason, seconds=seconds, evidence=evidence,
            counts={**counts, "new_signatures": len(new)}, facts=found.facts,
            examples={name: found.tally.example(name) for name in new if name in found.tally.texts},
            checkpoint=None if found.place is None else memory.encode())

    def _reason(self, found: Found, new: list[str]) -> tuple[str, str]:
        """Why the run was not ok, and what a person should see of it."""
        if found.problems:
            told = [scrub(f"{where}: {why}") for where, why in list(found.problems.items())[:_NAMED]]
            more = len(found.problems) - len(told)
            said = "cannot be read: " + "; ".join(told) + (f"; and {more} more" if more else "")
            # What can be read is counted once: were the run broken, the judge would never see it.
            return ("", said) if found.facts.get("log_files") else ("log_unreadable", said)
        tally = found.tally
        over = [level for level in LEVELS if (most := getattr(self._settings.max_events, level)) is not None and tally.events[level] > most]
        if over:
            worst = min(tally.texts, key=lambda name: (_rank(name), -tally.signatures[name]), default="")
            counted = ", ".join(f"{tally.events[level]} of level {level}" for level in over)
            return "errors", scrub(f"{counted}: {tally.example(worst)}")
        seen = min((name for name in new if name in tally.texts), key=_rank, default="")
        return "", tally.example(seen) or found.note



def _rank(name: str) -> int:
    """The worse its level, the lower."""
    return next((rank for rank, level in enumerate(LEVELS) if name.startswith(level)), len(LEVELS))


def _source(settings: ErrorLogSettings) -> Files | Units:
    scanners = Scanners(settings.format, lambda name: Scanner(
        name, level=settings.level, pattern=settings.pattern, start_pattern=settings.start_pattern, groups=settings.groups, slow=settings.slow,
        keys=settings.json_keys))
    if settings.journal:
        return Units(settings.journal, scanners, settings.format, settings.timeout)
    return Files(Tail([str(path.absolute()) for path in settings.paths], settings.begin), scanners, settings.timeout)
