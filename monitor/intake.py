"""accept(sample): store -> metrics -> health -> incident. The only door from measuring to the rest."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from monitor.casebook import Casebook
from monitor.clock import Clock, new_id
from monitor.exporter import Exporter
from monitor.health import Flip, Health, Rule, State, Target, judge
from monitor.incidents import REMOVED, Context, on_flip, storming
from monitor.store import Store
from monitor.updates import Update
from probes.sample import Outcome, Sample, Trigger

log = structlog.get_logger()

_BROKEN, _MANUAL = Outcome.BROKEN, Trigger.MANUAL      # the hot path pays for each look into an enum


@dataclass(frozen=True, slots=True)
class Watched:
    """What intake must know of a target: its rule, where it lives, and what it is worth."""

    rule: Rule
    host: str
    critical: bool = False
    control: bool = False


class Intake:
    """Takes samples in. `suspect(now)` gives the update that a new outage may belong to, and whether it is under way.

    `note(sample)` hears of every run, and says whether it failed because this monitor itself has lost its network: then it is *broken* and
    tells nothing of the shop.
    """

    def __init__(self, targets: Mapping[Target, Watched], store: Store, exporter: Exporter, casebook: Casebook, clock: Clock) -> None:
        self._targets, self._store, self._exporter, self._casebook, self._clock = targets, store, exporter, casebook, clock
        self._health: dict[Target, Health] = {}
        self._newest: dict[Target, Sample] = {}
        self.checkpoints: dict[Target, bytes] = {}      # the last accepted of each target, whether or not it is committed yet
        self.suspect: Callable[[float], tuple[Update | None, bool]] = lambda _now: (None, False)
        self.note: Callable[[Sample], bool] = lambda _sample: False

    def take_up(self, stored: Mapping[Target, Health], checkpoints: Mapping[Target, bytes]) -> None:
        """Go on from the checkpoints and the health that were stored; what is no longer configured keeps no incident open.

        Health is stored with every run, incidents a moment later. So it may know of a recovery that its incident has not heard of, and would
        never hear of: such a target counts as bad again, and its next run says that it is well.
        """
        self.checkpoints.update(checkpoints)
        bad = {ours: {(m.probe, m.device, m.cohort) for i in self._casebook.open if (i.kind == "monitor_fault") == ours
                      for m in i.members if m.recovered is None} for ours in (False, True)}
        told = bad[False] | bad[True]
        kept = {t: h for t, h in stored.items() if t in self._targets and (t in told or not (h.down or h.broken))}
        now = self._clock.now()
        self._health = {t: _as_told(h, now, down=t in bad[False], broken=t in bad[True]) for t, h in kept.items()}
        self._forget(stored.keys() - self._health.keys())        # put back later, it begins anew: nobody was told that it is down
        self._keep_nothing_open()

    def change(self, targets: Mapping[Target, Watched]) -> None:
        """Go on with other targets, after a reload. A new one begins unknown, one that is gone keeps no incident open, and the rest go
        on where they were, by their new rules.
        """
        gone = self._targets.keys() - targets.keys()
        self._targets = targets
        self._forget(gone)
        self._keep_nothing_open()

    def _forget(self, targets: Iterable[Target]) -> None:
        for target in targets:
            self._health.pop(target, None)
            self._newest.pop(target, None)
            self._store.add_health(target, _NEW)

    def _keep_nothing_open(self) -> None:
        """What is not configured leaves its incidents."""
        now = self._clock.now()
        for incident in self._casebook.open:
            state = State.MEASURED if incident.kind == "monitor_fault" else State.UP
            gone = {(m.probe, m.device, m.cohort) for m in incident.members if m.recovered is None} - self._targets.keys()
            for probe, device, cohort in sorted(gone):
                flip = Flip(probe, device, cohort, State.DOWN, state, REMOVED, now, now)
                self._casebook.apply(on_flip(self._casebook.open, flip, Context(), lambda: new_id(now)), detail="no longer configured")

    def down(self) -> set[Target]:
        return {target for target, health in self._health.items() if health.down}

    def working(self) -> list[str]:
        """Names of the probes that were measured and are well, for "what still works"."""
        well = {t[0] for t, h in self._health.items() if h.window and not h.unsettled and not h.broken}
        return sorted(well - {t[0] for t in self.down()})

    def blind(self) -> float | None:
        """Since when (Unix s) no target at all can be measured; None while any can, or was not tried yet."""
        found = [self._health.get(target, _NEW) for target in self._targets]
        since = [health.unmeasured_since for health in found if health.unmeasured_since is not None and health.unmeasured[-1:] == (True,)]
        return max(since) if since and len(since) == len(found) else None

    def describe(self, target: Target) -> dict[str, object]:
        """The state of a target for people: unknown, up, failing, down or broken, since when and why."""
        health, newest = self._health.get(target, _NEW), self._newest.get(target)
        state = "broken" if health.broken else "down" if health.down else "failing" if health.failing_since is not None else "up"
        if newest is None:
            return {"state": state if health.window else "unknown"}
        return {"state": state, "since": health.failing_since, "outcome": newest.outcome.value, "reason": newest.reason, "at": newest.ended,
                "seconds": newest.seconds, "evidence": newest.evidence}

    def accept(self, sample: Sample) -> bool:
        """Take one sample in. True when it is worth looking again soon. Never blocks."""
        target = sample.probe, sample.device, sample.cohort
        watched = self._targets.get(target)
        if watched is None:                             # its probe was taken out of the configuration while it ran
            return False
        if self.note(sample):
            sample = replace(sample, outcome=_BROKEN, reason="uplink")
        if sample.checkpoint is not None:
            self.checkpoints[target] = sample.checkpoint
        self._store.add_sample(sample)
        self._exporter.observe(sample)
        log.debug("probe ran", probe=sample.probe, outcome=sample.outcome.value, reason=sample.reason or None, seconds=sample.seconds)
        if sample.trigger is _MANUAL:
            return False
        self._newest[target] = sample
        before = self._health.get(target, _NEW)
        after, flips = judge(before, watched.rule, sample)
        self._health[target] = after
        for flip in flips:
            self._flipped(flip, watched, after)
        if not flips and not (before.steady and after.steady):
            self._store.add_health(target, after)       # a restart must not forget a failing that is not yet an outage
        return after.unsettled or sample.outcome is _BROKEN

    def _flipped(self, flip: Flip, watched: Watched, health: Health) -> None:
        suspect, under_way = self.suspect(flip.at)
        context = Context(host=watched.host, urgency=watched.rule.urgency, critical=watched.critical,
                          suspect=None if watched.control else suspect, watched=under_way,
                          storm=storming(self._casebook.opened, flip.at))
        transitions = on_flip(self._casebook.open, flip, context, lambda: new_id(flip.at))
        level = log.warning if flip.new in {State.DOWN, State.BROKEN} else log.info
        level("probe is " + flip.new.value, probe=flip.probe, device=flip.device or None, reason=flip.reason or None, evidence=flip.evidence or None)
        self._casebook.apply(transitions, flip=flip, health=(flip.target, health))


def _as_told(health: Health, now: float, *, down: bool, broken: bool) -> Health:
    """No better than the open incidents have it."""
    if broken and not health.broken:
        health = replace(health, broken=True, unmeasured_since=now)
    return replace(health, down=True) if down and not health.down else health


_NEW = Health()
