"""What "before" means: the runs that are read back from the store when an update starts, and frozen."""

import asyncio
import math
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from monitor.health import Target, Urgency
from monitor.judge.baseline import WORTH_READING, Baseline, freeze
from monitor.judge.signals import Run, Subject
from monitor.store import Store, records, samples
from monitor.updates import Status, Update, UpdateSettings
from probes.sample import Outcome, Sample, Trigger

ENOUGH_FAST = 90            # runs at the faster spacing, without which an update is not judged at that spacing
MOST_READ = 400_000         # runs read for all baselines together
MOST_OBSERVED = 960         # runs within which a pass is hoped for: 2 h at 7.5 s; power over more takes too long to measure
SCAN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Judged:
    """A target as the watch needs it: what the judge knows of it, and its two spacings in s."""

    subject: Subject
    interval: float
    fast: float
    urgency: Urgency = "page"


async def freeze_all(
    store: Store, targets: Mapping[Target, Judged], earlier: Sequence[Update], now: float, settings: UpdateSettings,
) -> dict[Target, Baseline]:
    """Each target's baseline as of `now`: at its faster spacing where there were enough bursts, else at the regular one.

    The power that a PASS asks for is measured only for what must pass: the critical probes, all if none is.
    """
    most = max(ENOUGH_FAST * 4, min(WORTH_READING, MOST_READ // max(len(targets), 1)))
    since = now - settings.baseline
    found = await store.read(lambda c: _gather(c, targets, now, since, most), seconds=SCAN_SECONDS)
    excluded = await _excluded(store, earlier, since, now)
    every = not any(judged.subject.critical for judged in targets.values())
    baselines = {}
    for target, runs in found.items():
        observe = settings.observe_limit if every or targets[target].subject.critical else 0.0
        baselines[target] = await asyncio.to_thread(_frozen, targets[target], runs, excluded, observe)
    return baselines


async def _excluded(store: Store, earlier: Sequence[Update], since: float, now: float) -> list[tuple[float, float]]:
    """Times that are no "before": incidents, and updates that regressed or were cancelled."""
    incidents = await store.read(lambda c: records.incidents(c, since))
    spans = [(i.began, i.resolved or now) for i in incidents if i.kind in {"outage", "regression"}]
    bad = [u for u in earlier if u.regressed or u.status is Status.CANCELLED]
    return spans + [(u.started, u.recovered or u.closed or now) for u in bad]


def run_at(sample: Sample, spacing: float) -> Run | None:
    """The sample as the judge sees it at this spacing (s); None when it says nothing there.

    The regular grid goes on while a target is hurried, so its runs can be judged against a past without bursts.
    """
    if sample.outcome is Outcome.BROKEN or sample.trigger not in {Trigger.SCHEDULED, Trigger.BURST}:
        return None
    if sample.trigger is Trigger.BURST and not math.isclose(sample.spacing, spacing, rel_tol=0.01):
        return None
    return Run(at=sample.started, ok=sample.outcome is Outcome.OK, seconds=sample.seconds, spacing=spacing, overloaded=sample.overloaded,
               values=sample.values)


_Runs = tuple[list[Run], list[Run]]      # at the regular spacing, and at the faster one; newest first


def _gather(connection: sqlite3.Connection, targets: Mapping[Target, Judged], before: float, since: float, most: int) -> dict[Target, _Runs]:
    """Up to `most` newest runs of each target at either spacing."""
    found: dict[Target, _Runs] = {target: ([], []) for target in targets}
    lacking = set(targets)
    for stored in samples.backwards(connection, before, since):
        sample = stored.sample
        target = sample.probe, sample.device, sample.cohort
        if target not in lacking:
            continue
        judged, (regular, fast) = targets[target], found[target]
        if sample.trigger is Trigger.SCHEDULED and len(regular) < most and (run := run_at(sample, judged.interval)):
            regular.append(run)
        if math.isclose(sample.spacing, judged.fast, rel_tol=0.01) and (run := run_at(sample, judged.fast)):
            fast.append(run)
        if len(regular) >= most or len(fast) >= most:
            lacking.discard(target)
            if not lacking:
                break
    return found


def _frozen(judged: Judged, runs: _Runs, excluded: Sequence[tuple[float, float]], observe: float) -> Baseline:
    """`observe` is how long the update is observed at most, in s; 0 for a target that need not pass."""
    regular, fast = runs
    hurried = judged.fast < judged.interval and len(fast) >= ENOUGH_FAST
    spacing = judged.fast if hurried else judged.interval
    horizon = min(math.ceil(observe / spacing), MOST_OBSERVED)
    return freeze(judged.subject, fast if hurried else regular, spacing=spacing, excluded=excluded, horizon=horizon)
