"""What "before" means: the runs that are read back from the store when an update starts, and frozen."""

import asyncio
import math
import multiprocessing
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
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
SCAN_SECONDS = 60.0         # reading that takes longer fails
ENOUGH_SECONDS = 20.0       # the past is read for so long, and what was found by then is "before"
STORED_TO = 0.001           # s to which the store keeps a start, cut off: a run may seem to start before its outage
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
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_step_back)
    try:
        return await loop.run_in_executor(pool, work)
    except BrokenProcessPool:
        raise StoreError("the process that reads the past ended unexpectedly") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _step_back() -> None:
    """Let the probes have the CPU first. Some sandboxes forbid it."""
    with suppress(PermissionError):
        os.nice(10)


def _freeze_all(
    path: Path, targets: Mapping[Target, Judged], earlier: Sequence[Update], now: float, settings: UpdateSettings,
) -> dict[Target, Baseline]:
    """The power that a PASS asks for is measured only for what must pass: the critical probes, all if none is."""
    most = max(ENOUGH_FAST * 4, min(WORTH_READING, MOST_READ // max(len(targets), 1)))
    since = now - settings.baseline
    excluded = _excluded(targets, read_only(path, lambda c: records.incidents(c, since)), earlier, now)
    pasts = {target: _Past(judged, excluded[target]) for target, judged in targets.items()}
    read_only(path, lambda c: _gather(c, pasts, now, since, most), SCAN_SECONDS)
    every = not any(judged.subject.critical for judged in targets.values())
    return {
        target: _frozen(past, settings.observe_limit if every or past.judged.subject.critical else 0.0)
        for target, past in pasts.items()
    }


_Span = tuple[float, float]


def _excluded(targets: Iterable[Target], incidents: Sequence[Incident], earlier: Sequence[Update], now: float) -> dict[Target, list[_Span]]:
    """Times that are no "before" of a target: updates that regressed or were cancelled, and its own outages.

    What is down does not spoil the past of the rest: else a probe that nobody repairs leaves the whole shop without one.
    """
    bad = [(u.started, u.recovered or u.closed or now) for u in earlier if u.regressed or u.status is Status.CANCELLED]
    spans = {target: list(bad) for target in targets}
    for incident in incidents:
        for m in incident.members if incident.kind in {"outage", "regression"} else ():
            if (own := spans.get((m.probe, m.device, m.cohort))) is not None:
                own.append((m.since - STORED_TO, m.recovered or incident.resolved or now))
    return spans


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


@dataclass(slots=True)
class _Past:
    """What has been read of one target: its runs at the regular spacing and at the faster one, newest first."""

    judged: Judged
    excluded: Sequence[_Span] = ()
    regular: list[Run] = field(default_factory=list)
    fast: list[Run] = field(default_factory=list)

    def take(self, sample: Sample) -> int:
        """Keep the sample if it is "before"; how many runs there are at the spacing that has more."""
        if not any(begin <= sample.started <= end for begin, end in self.excluded):
            if sample.trigger is Trigger.SCHEDULED and (run := run_at(sample, self.judged.interval)):
                self.regular.append(run)
            if math.isclose(sample.spacing, self.judged.fast, rel_tol=0.01) and (run := run_at(sample, self.judged.fast)):
                self.fast.append(run)
        return max(len(self.regular), len(self.fast))


def _gather(connection: sqlite3.Connection, pasts: Mapping[Target, _Past], before: float, since: float, most: int) -> None:
    """Up to `most` newest runs of each target at either spacing, as far back as ENOUGH_SECONDS reach.

    A target that has enough is not decoded any more: a new or an hourly one lacks runs until the end of the past.
    """
    series = samples.series_of(connection, pasts)
    lacking = set(series)
    for stored in samples.backwards(connection, before, since, lacking, ENOUGH_SECONDS):
        sample = stored.sample
        target = sample.probe, sample.device, sample.cohort
        if pasts[target].take(sample) >= most:
            lacking.difference_update([id_ for id_, of in series.items() if of == target])


def _frozen(past: _Past, observe: float) -> Baseline:
    """`observe` is how long the update is observed at most, in s; 0 for a target that need not pass."""
    judged = past.judged
    hurried = judged.fast < judged.interval and len(past.fast) >= ENOUGH_FAST
    spacing = judged.fast if hurried else judged.interval
    horizon = min(math.ceil(observe / spacing), MOST_OBSERVED)
    return freeze(judged.subject, past.fast if hurried else past.regular, spacing=spacing, horizon=horizon)
