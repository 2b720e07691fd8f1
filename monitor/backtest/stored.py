"""A history from the store of the configuration; the daemon may go on writing to it."""

import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from monitor.backtest.source import Shop, Source, fit
from monitor.before import MOST_OBSERVED, MOST_READ, Judged, Span, excluded, run_at
from monitor.clock import day
from monitor.config import Config, Probe
from monitor.health import Rule, Target
from monitor.judge.backtest import History, Plan
from monitor.judge.signals import Run
from monitor.store import read_only, records, samples
from monitor.targets import judged, watches
from monitor.updates import Status
from probes.sample import Trigger

READ_SECONDS = 600.0        # reading that takes longer fails
_DAY = 86400.0
_MOST = 10_000              # updates and incidents


def read(config: Config, days: float | None) -> Source:
    """The newest `days` (all, when None) of the regular runs of all configured probes. Raises StoreError."""
    path = config.daemon.state_dir / "tillwatch.sqlite3"
    probes = {target: probe for probe in config.probe for target in watches(probe)}
    targets = {target: judged(target, probe, config.update) for target, probe in probes.items()}
    runs, whole = read_only(path, partial(_runs, targets=targets, days=days), READ_SECONDS)
    incidents = read_only(path, lambda c: records.incidents(c, limit=_MOST))
    flips = read_only(path, lambda c: records.flips(c, 0.0, math.inf))
    earlier = read_only(path, lambda c: records.updates(c, _MOST))
    real = [update for update in earlier if update.status is not Status.REFUSED]
    spans = excluded(targets, incidents, flips, earlier, math.inf, read_only(path, records.measured))
    histories = _histories(probes, targets, runs, spans)
    shop, short = fit("", histories, Plan(config.update, most_observed=MOST_OBSERVED), [(u.started, u.closed or math.inf) for u in real])
    if not shop.histories:
        return Source(str(path), str(config.path), [], short)
    counted = sum(update.started >= shop.begun and update.status is not Status.CANCELLED for update in real)
    return Source(str(path), str(config.path), [shop], short, list(_notes(shop, targets, whole=whole)), counted)


def _notes(shop: Shop, targets: Mapping[Target, Judged], *, whole: bool) -> Iterator[str]:
    if not whole:
        yield f"only the newest {MOST_READ:,} runs are read: since {day(shop.begun)}"
    if any(targets[history.subject.key].fast < history.spacing for history in shop.histories):
        yield "this is the regular pace; while a real update is watched http probes run faster, and are judged so once there are bursts"


def _runs(connection: sqlite3.Connection, targets: Mapping[Target, Judged], days: float | None) -> tuple[dict[Target, list[Run]], bool]:
    """The regular runs of each target, newest first, and whether these are all that were asked for."""
    before, since = time.time() + _DAY, 0.0           # a clock that was put back hides nothing
    newest = next(samples.backwards(connection, before, since), None)
    if newest and days is not None:
        since = newest.sample.started - days * _DAY
    found: dict[Target, list[Run]] = {target: [] for target in targets}
    count = 0
    for stored in samples.backwards(connection, before, since, set(samples.series_of(connection, targets))):
        sample = stored.sample
        target = sample.probe, sample.device, sample.cohort
        if sample.trigger is Trigger.SCHEDULED and (run := run_at(sample, targets[target].interval)):
            found[target].append(run)
            count += 1
            if count == MOST_READ:
                return found, False
    return found, True


def _histories(
    probes: Mapping[Target, Probe], targets: Mapping[Target, Judged], runs: Mapping[Target, Sequence[Run]],
    spans: Mapping[Target, Sequence[Span]],
) -> list[History]:
    """With the times that the daemon leaves out of "before"; what is not over yet lasts for ever."""
    return [
        History.of(known.subject, known.interval, runs[target], _rule(probes[target]), spans[target]) for target, known in targets.items()
    ]


def _rule(probe: Probe) -> Rule:
    """Without the rest of the probe: it is handed to other processes."""
    return Rule.model_construct(of=probe.of, failures=probe.failures, confirm=probe.confirm, urgency=probe.urgency)
