"""What "before" means: the runs that are read back from the store when an update starts, and frozen."""

import asyncio
import math
import multiprocessing
import os
import sqlite3
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from monitor.health import State, Target, Urgency
from monitor.incidents import Incident
from monitor.judge.baseline import WORTH_READING, Baseline, freeze
from monitor.judge.season import DAY, ENOUGH, LEAST_DAYS, thinned
from monitor.judge.signals import Run, Subject
from monitor.parts import marked
from monitor.store import StoreError, read_only, records, samples
from monitor.updates import Status, Update, UpdateSettings
from probes.sample import Outcome, Sample, Trigger

ENOUGH_FAST = 90            # runs at the faster spacing, without which an update is not judged at that spacing
MOST_READ = 400_000         # newest runs read for all baselines together; and half as many of the time before, for the time of day
MOST_OBSERVED = 960         # runs within which a pass is hoped for: 2 h at 7.5 s; power over more takes too long to measure
SCAN_SECONDS = 60.0         # reading that takes longer fails
ENOUGH_SECONDS = 20.0       # the past is read for so long, and what was found by then is "before"
SEASON_SECONDS = 5.0        # the same for what tells the time of day
REMEMBERED = 3              # updates after which what happens at each of them is looked for
STORED_TO = 0.001           # s to which the store keeps a start, cut off: a run may seem to start before its outage
FEW = 10                    # targets that are frozen in a thread: starting a process costs more


@dataclass(frozen=True, slots=True)
class Judged:
    """A target as the watch needs it: what the judge knows of it, and its two spacings in s."""

    subject: Subject
    interval: float
    fast: float
    urgency: Urgency = "page"


async def freeze_all(
    path: Path, targets: Mapping[Target, Judged], earlier: Sequence[Update], now: float, settings: UpdateSettings, changes: tuple[str, ...] = (),
) -> dict[Target, Baseline]:
    """Each target's baseline as of `now`, from the store at `path`; `changes` are the parts that the update changes. Raises StoreError.

    Many targets take many seconds of CPU: they are frozen by a process of its own, so that probes start on time.
    """
    loop, work = asyncio.get_running_loop(), partial(_freeze_all, path, dict(targets), list(earlier), now, settings, changes)
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
    path: Path, targets: Mapping[Target, Judged], earlier: Sequence[Update], now: float, settings: UpdateSettings, changes: tuple[str, ...],
) -> dict[Target, Baseline]:
    """The power that a PASS asks for is measured only for what must pass: the critical probes, all if none is."""
    most = max(ENOUGH_FAST * 4, min(WORTH_READING, MOST_READ // max(len(targets), 1)))
    since = now - settings.baseline
    incidents, flips, measured = read_only(path, lambda c: (records.incidents(c, since), records.flips(c, since, now), records.measured(c)))
    spans = excluded(targets, incidents, flips, earlier, now, measured)
    pasts = {target: _Past(judged, spans[target], changes) for target, judged in targets.items()}
    read_only(path, lambda c: _gather(c, pasts, now, since, most), SCAN_SECONDS)
    every = not any(judged.subject.critical for judged in targets.values())
    return {
        target: _frozen(past, settings, peaks(target, earlier), must_pass=every or past.judged.subject.critical)
        for target, past in pasts.items()
    }


def peaks(target: Target, earlier: Sequence[Update]) -> dict[str, list[float]]:
    """The highest evidence that each signal of a target showed after the last updates that did no harm, by its name."""
    harmless = [update for update in earlier if update.verdict in {"pass", "inconclusive"} and update.rolled_back is None]
    found: dict[str, list[float]] = {}
    for update in sorted(harmless, key=lambda update: update.started, reverse=True)[:REMEMBERED]:
        for signal in update.ruling.get("signals", ()):
            if tuple(signal.get(name) for name in ("probe", "device", "cohort")) == target:
                found.setdefault(signal["signal"], []).append(signal.get("peak", 0.0))
    return found


Span = tuple[float, float]


def excluded(
    targets: Iterable[Target], incidents: Sequence[Incident], flips: Iterable[Mapping[str, Any]], earlier: Sequence[Update], now: float,
    measured: Mapping[str, Sequence[tuple[float, str]]],
) -> dict[Target, list[Span]]:
    """Times (Unix s, from and to, ascending, apart) that are no "before" of a target: updates that harmed, its own outages, and
    when it measured something else.

    What is down does not spoil the past of the rest: else a probe that nobody repairs leaves the whole shop without one.
    Flips tell each outage of a target; an incident, through which it may have gone down twice, those that began before.
    """
    bad = [span for update in earlier for span in _harm(update, now)]
    spans = {target: list(bad) for target in targets}
    for incident in incidents:
        for m in incident.members if incident.kind in {"outage", "regression"} else ():
            if (own := spans.get((m.probe, m.device, m.cohort))) is not None:
                own.append((m.since - STORED_TO, m.recovered or incident.resolved or now))
    for target, span in _outages(flips, now):
        if (own := spans.get(target)) is not None:
            own.append(span)
    return {target: _joined([*own, *_elsewhere(measured.get(target[0], ()))]) for target, own in spans.items()}


def _harm(update: Update, now: float) -> Iterator[Span]:
    """When an update was why the shop was not what it usually is, or may have been. After a pass, and when nothing was seen, never."""
    if update.regressed or update.in_doubt or update.rolled_back is not None or update.status is Status.CANCELLED:
        yield update.started, update.recovered or update.closed or now
    if update.downtime_until > update.started:
        yield update.started, update.downtime_until


def _outages(flips: Iterable[Mapping[str, Any]], now: float) -> Iterator[tuple[Target, Span]]:
    """From the first run that failed to the one that was found well, in the order in which they were told."""
    begun: dict[Target, float] = {}
    for flip in flips:
        target = flip["probe"], flip["device"], flip["cohort"]
        if flip["new"] == State.DOWN:
            begun.setdefault(target, flip["since"] - STORED_TO)
        elif flip["new"] == State.UP and target in begun:
            yield target, (begun.pop(target), flip["at"])
    yield from ((target, (since, now)) for target, since in begun.items())


def _elsewhere(measured: Sequence[tuple[float, str]]) -> Iterator[Span]:
    """When a probe measured something else than it does now; what it measured before the first of so many changes is forgotten."""
    for (begin, one), (end, _) in pairwise([(0.0, ""), *measured]):
        if one != measured[-1][1]:
            yield begin - STORED_TO, end - STORED_TO


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Those that touch are one."""
    joined: list[Span] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(joined[-1][1], end)
        else:
            joined.append((begin, end))
    return joined


def run_at(sample: Sample, spacing: float, changes: tuple[str, ...] = ()) -> Run | None:
    """The sample as the judge sees it at this spacing (s); None when it says nothing there.

    The regular grid goes on while a target is hurried, so its runs can be judged against a past without bursts. Logged errors that lie in
    one of these `changes` are marked as such, and weigh more: a past and what is compared with it need the same ones.
    """
    if sample.outcome is Outcome.BROKEN or sample.trigger not in {Trigger.SCHEDULED, Trigger.BURST}:
        return None
    if sample.trigger is Trigger.BURST and not math.isclose(sample.spacing, spacing, rel_tol=0.01):
        return None
    steps = [step for step in sample.steps if step.outcome is not Outcome.BROKEN]
    return Run(
        at=sample.started, ok=sample.outcome is Outcome.OK, seconds=sample.seconds, spacing=spacing,
        regular=sample.trigger is Trigger.SCHEDULED, overloaded=sample.overloaded,
        values={**sample.values, **{f"step/{step.name}": step.seconds for step in steps}} if steps else sample.values,
        passed={f"step/{step.name}": step.outcome is Outcome.OK for step in steps}, counts=marked(sample.counts, changes))


@dataclass(slots=True)
class _Past:
    """What has been read of one target: its runs at the regular spacing and at the faster one, newest first.

    `scattered` are regular ones from all of the past, in no order, and may be the same.
    """

    judged: Judged
    excluded: Sequence[Span] = ()
    changes: tuple[str, ...] = ()
    regular: list[Run] = field(default_factory=list)
    fast: list[Run] = field(default_factory=list)
    scattered: list[Run] = field(default_factory=list)

    def take(self, sample: Sample) -> int:
        """Keep the sample if it is "before"; how many runs there are at the spacing that has more."""
        if run := self._regular(sample):
            self.regular.append(run)
        fast = math.isclose(sample.spacing, self.judged.fast, rel_tol=0.01) and self._is_before(sample)
        if fast and (run := run_at(sample, self.judged.fast, self.changes)):
            self.fast.append(run)
        return max(len(self.regular), len(self.fast))

    def scatter(self, sample: Sample) -> None:
        """Keep the sample if it tells what is usual at its time of day."""
        if run := self._regular(sample):
            self.scattered.append(run)

    def _regular(self, sample: Sample) -> Run | None:
        if sample.trigger is not Trigger.SCHEDULED or not self._is_before(sample):
            return None
        return run_at(sample, self.judged.interval, self.changes)

    def _is_before(self, sample: Sample) -> bool:
        place = bisect_right(self.excluded, (sample.started, math.inf))
        return not place or sample.started > self.excluded[place - 1][1]


def _gather(connection: sqlite3.Connection, pasts: Mapping[Target, _Past], before: float, since: float, most: int) -> None:
    """Up to `most` newest runs of each target at either spacing, as far back as ENOUGH_SECONDS reach; and some of all the time.

    A target that has enough is not decoded any more: a new or an hourly one lacks runs until the end of the past.
    What is dated later than now, or before the past begins, is left out: a clock was wrong.
    """
    series = samples.series_of(connection, pasts)
    lacking = set(series)
    for stored in samples.backwards(connection, before, since, lacking, ENOUGH_SECONDS):
        sample = stored.sample
        target = sample.probe, sample.device, sample.cohort
        if pasts[target].take(sample) >= most:
            lacking.difference_update([id_ for id_, of in series.items() if of == target])
    if before - samples.oldest(connection) < LEAST_DAYS * DAY:
        return
    for stored in samples.scattered(connection, before, since, set(series), min(ENOUGH * len(pasts), MOST_READ // 2), SEASON_SECONDS):
        sample = stored.sample
        pasts[sample.probe, sample.device, sample.cohort].scatter(sample)


def _frozen(past: _Past, settings: UpdateSettings, at_updates: Mapping[str, Sequence[float]], *, must_pass: bool) -> Baseline:
    judged = past.judged
    hurried = judged.fast < judged.interval and len(past.fast) >= ENOUGH_FAST
    spacing = judged.fast if hurried else judged.interval
    horizon = min(math.ceil(settings.observe_limit / spacing), MOST_OBSERVED) if must_pass else 0
    history = thinned([*past.regular, *past.scattered], settings.baseline)
    if not hurried:
        return freeze(judged.subject, past.regular, spacing=spacing, horizon=horizon, history=history, peaks=at_updates)
    return freeze(
        judged.subject, past.fast, spacing=spacing, horizon=horizon, history=history, peaks=at_updates, regular=past.regular,
        interval=judged.interval)
