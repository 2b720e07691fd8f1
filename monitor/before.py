"""What "before" means: the runs that are read back from the store when an update starts, and frozen."""

import asyncio
import math
import multiprocessing
import os
import sqlite3
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from monitor.health import Target, Urgency
from monitor.incidents import Incident
from monitor.judge.baseline import WORTH_READING, Baseline, freeze
from monitor.judge.signals import Run, Subject
from monitor.store import StoreError, read_only, records, samples
from monitor.updates import Status, Update, UpdateSettings
from probes.sample import Outcome, Sample, Trigger

ENOUGH_FAST = 90            # runs at the faster spacing, without which an update is not judged at that spacing
MOST_READ = 400_000         # runs read for all baselines together
MOST_OBSERVED = 960         # runs within which a pass is hoped for: 2 h at 7.5 s; power over more takes too long to measure
SCAN_SECONDS = 60.0
FEW = 20                    # targets that are frozen in a thread: starting a process costs more


@dataclass(frozen=True, slots=True)
class Judged:
    """A target as the watch needs it: what the judge knows of it, and its two spacings in s."""

    subject: Subject
    interval: float
    fast: float
    urgency: Urgency = "page"


async def freeze_all(
    path: Path, targets: Mapping[Target, Judged], earlier: Sequence[Update], now: float, settings: UpdateSettings,
) -> dict[Target, Baseline]:
    """Each target's baseline as of `now`, from the store at `path`. Raises StoreError.

    Many targets take many seconds of CPU: they are frozen by a process of its own, so that probes start on time.
    """
    loop, work = asyncio.get_running_loop(), partial(_freeze_all, path, dict(targets), list(earlier), now, settings)
    if len(targets) <= FEW:
        return await asyncio.to_thread(work)
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=os.nice, initargs=(10,))
    try:
        return await loop.run_in_executor(pool, work)
    except BrokenProcessPool:
        raise StoreError("the process that reads the past ended unexpectedly") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _freeze_all(
    path: Path, targets: Mapping[Target, Judged], earlier: Sequence[Update], now: float, settings: UpdateSettings,
) -> dict[Target, Baseline]:
    """The power that a PASS asks for is measured only for what must pass: the critical probes, all if none is."""
    most = max(ENOUGH_FAST * 4, min(WORTH_READING, MOST_READ // max(len(targets), 1)))
    since = now - settings.baseline
    found = read_only(path, lambda c: _gather(c, targets, now, since, most), SCAN_SECONDS)
    excluded = _excluded(read_only(path, lambda c: records.incidents(c, since)), earlier, now)
    every = not any(judged.subject.critical for judged in targets.values())
    return {
        target: _frozen(targets[target], runs, excluded, settings.observe_limit if every or targets[target].subject.critical else 0.0)
        for target, runs in found.items()
    }


def _excluded(incidents: Sequence[Incident], earlier: Sequence[Update], now: float) -> list[tuple[float, float]]:
    """Times that are no "before": incidents, and updates that regressed or were cancelled."""
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
