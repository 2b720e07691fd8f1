"""The verb itself: reads the history, replays placebo updates in several processes, and shows what they say together."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, suppress
from itertools import starmap
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from monitor.backtest import csv_file, shown, stored
from monitor.backtest.source import Source
from monitor.client import INCONCLUSIVE, UNEXPECTED, CommandError
from monitor.clock import span
from monitor.command import Context, show
from monitor.config import Config
from monitor.judge.backtest import ENOUGH_PAST, Placed, Plan, Replayed, Window, outages, place, replay, required, spread
from monitor.judge.tally import WEEK, Tally, tally
from monitor.store import StoreError
from monitor.updates import UpdateSettings

MOST_UPDATES = 200
MOST_TARGETS = 1_200        # targets frozen by a usual run, all updates together: about a minute on two cores
FEWEST = 30
Work = tuple[Window, Plan]


def run(context: Context, *, days: float | None, csv: str | None, updates: int | None, jobs: int | None, as_json: bool) -> None:
    """Raises CommandError: 2 when the file cannot be understood, 4 when there is too little history."""
    source = _source(context, csv, days)
    placed = [place(shop.name, shop.histories, shop.plan, shop.updates) for shop in source.shops]
    work = [(window, shop.plan) for shop, found in zip(source.shops, placed, strict=True) for window in found.windows]
    if not work:
        raise CommandError(INCONCLUSIVE, _too_short(source, placed))
    replays = _replayed(_some(work, updates), jobs or len(os.sched_getaffinity(0)))
    result = _tally(source, replays)
    skipped = {why: sum(found.skipped.get(why, 0) for found in placed) for why in ("update", "gap", "short")}
    if as_json:
        show(shown.document(source, result, skipped))
    else:
        shown.tables(source, result, skipped)


def _source(context: Context, csv: str | None, days: float | None) -> Source:
    if csv is not None:
        config = _config(context)
        settings, whose = (config.update, str(config.path)) if config else (UpdateSettings(), "the defaults")
        return csv_file.read(Path(csv), settings, whose, days)
    try:
        return stored.read(context.config(), days)
    except StoreError as error:
        raise CommandError(INCONCLUSIVE, f"no history can be read: {error}; let the daemon run first, or name a file with --csv") from None


def _config(context: Context) -> Config | None:
    """A file needs none; the one that is there says what counts as worse."""
    try:
        there = bool(context.path)
    except CommandError:
        there = False
    config: Config | None = context.config() if there else None
    return config


def _some(work: Sequence[Work], most: int | None) -> list[Work]:
    """Fewer for a large shop, so that it takes no longer; the number depends on the history alone."""
    if most is None:
        targets = max(len(window.slices) for window, _ in work)
        most = min(MOST_UPDATES, max(MOST_TARGETS // targets, FEWEST))
    return spread(work, most)


def _tally(source: Source, replays: Sequence[Replayed]) -> Tally:
    downs = [
        [outage for history in shop.histories if history.rule.urgency == "page" and not history.subject.control
         for outage in outages(history.subject, history.rule, history.runs)]
        for shop in source.shops
    ]
    weeks = sum(shop.ended - shop.begun for shop in source.shops) / WEEK
    return tally(replays, downs, weeks, source.own_updates / weeks if source.own_updates else None)


def _too_short(source: Source, placed: Sequence[Placed]) -> str:
    """What is missing, of the history that is longest."""
    if not source.shops:
        short = "; ".join(f"{name} has {why}" for name, why in source.left_out[:5])
        return f"the history in {source.name} is too short for an update and its past: {short or 'there is no run'}"
    if any(found.skipped for found in placed):
        return f"no update can be replayed on {source.name}: {shown.skipped_words(placed)}"
    shop = max(source.shops, key=lambda shop: shop.ended - shop.begun)
    wanted = max(ENOUGH_PAST * history.spacing for history in required(shop.histories)) + shop.plan.length
    lacking = max(wanted - (shop.ended - shop.begun), 0.0)
    parts = f"{ENOUGH_PAST} runs before it, {span(shop.plan.length)} of watching"
    return (f"the history in {source.name} is too short: an update takes {span(wanted)} ({parts}), "
            f"there are {span(shop.ended - shop.begun)}; {span(lacking)} more are needed")


# Processes


def _replayed(work: Sequence[Work], jobs: int) -> list[Replayed]:
    """In the order of `work`, whatever the number of processes."""
    jobs = min(jobs, len(work))
    with _bar(len(work)) as step, nullcontext() if jobs == 1 else _pool(jobs) as pool:
        found = []
        for one in _started(pool, work) if pool else starmap(replay, work):
            found.append(one)
            step()
        return found


def _started(pool: ProcessPoolExecutor, work: Sequence[Work]) -> Iterator[Replayed]:
    """An interrupt waits until all processes are under way: one that came while they start would end them with a trace.

    They inherit that it is blocked; this process ends them.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return pool.map(replay, *zip(*work, strict=True))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=_step_back)
    try:
        yield pool
    except BrokenProcessPool:
        raise CommandError(UNEXPECTED, "a process that replays ended unexpectedly; was there enough memory? --jobs 1 needs least") from None
    except BaseException:
        for child in multiprocessing.active_children():      # whoever interrupts does not wait for what is under way
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _step_back() -> None:
    """Let the daemon have the CPU first, where that is allowed."""
    with suppress(PermissionError):
        os.nice(10)


@contextmanager
def _bar(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on a terminal, nothing elsewhere."""
    console = Console(stderr=True)
    columns = (TextColumn("replaying updates"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
