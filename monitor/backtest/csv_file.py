"""A history from a CSV file. Columns are known by their names; docs/cli.md lists them."""

import csv
import gzip
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

from monitor.backtest.source import Shop, Source, fit
from monitor.before import MOST_OBSERVED
from monitor.client import USAGE, CommandError
from monitor.judge.backtest import History, Plan
from monitor.judge.signals import Run, Subject, margin_for
from monitor.updates import UpdateSettings
from probes.sample import Signal

TIMES = ("timestamp", "time", "at", "started", "t")
OUTCOMES = ("ok", "status", "outcome", "success", "up")
DURATIONS = {"seconds": 1.0, "duration": 1.0, "duration_seconds": 1.0, "ms": 1e-3, "duration_ms": 1e-3, "milliseconds": 1e-3}
NAMES = ("site", "probe")                 # a site is a shop by itself; a probe is one of several of the same shop
GOOD = frozenset({"1", "true", "yes", "ok", "up", "pass", "passed", "success", "degraded"})
BAD = frozenset({"0", "false", "no", "failed", "fail", "down", "error"})
OURS = frozenset({"broken"})              # it was not measured: the row is passed over
USUAL = 30.0                              # s; a history with longer gaps is told as if these were its gaps
_TOO_LATE = 1e11                          # Unix s beyond are ms
_SIGNALS = (Signal("success", "bernoulli"), Signal("duration", "latency"))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which column holds what, by the names in the header."""

    time: str
    outcome: str
    duration: str
    unit: float
    site: str = ""
    probe: str = ""


@dataclass(slots=True)
class _Series:
    """The rows of one probe of one site: when, ok or not, s."""

    rows: list[tuple[float, bool, float]] = field(default_factory=list)

    @property
    def spacing(self) -> float:
        times = sorted(at for at, _, _ in self.rows)
        gaps = [later - earlier for earlier, later in pairwise(times) if later > earlier]
        return median(gaps) if gaps else USUAL


def read(path: Path, settings: UpdateSettings, whose: str, days: float | None) -> Source:
    """The histories of a file, plain or gzip. Raises CommandError, with the line and the column, when it cannot be understood."""
    found: dict[str, dict[str, _Series]] = {}
    for site, probe, row in _rows(path):
        found.setdefault(site, {}).setdefault(probe, _Series()).rows.append(row)
    if not found:
        raise CommandError(USAGE, f"{path}: there is no row below the header")
    shops, left_out = [], []
    for site, series in sorted(found.items()):
        shop, short = _shop(site, series, settings, days)
        left_out += short
        if shop.histories:
            shops.append(shop)
    return Source(str(path), whose, shops, left_out, list(_notes(shops)))


def _shop(site: str, series: Mapping[str, _Series], settings: UpdateSettings, days: float | None) -> tuple[Shop, list[tuple[str, str]]]:
    spacings = {probe: one.spacing for probe, one in series.items()}
    plan = Plan(settings, max(min(spacings.values()) / USUAL, 1.0), MOST_OBSERVED)
    newest = max(at for one in series.values() for at, _, _ in one.rows)
    since = newest - days * 86400 if days is not None else -math.inf
    histories = [
        History.of(_subject(probe or site or "shop", settings), spacings[probe],
                   [Run(at, ok, seconds, spacings[probe]) for at, ok, seconds in one.rows if at >= since])
        for probe, one in sorted(series.items())
    ]
    return fit(site, histories, plan)


def _subject(name: str, settings: UpdateSettings) -> Subject:
    return Subject(name, "", "", kind="http", critical=True, control=False, margin=margin_for("http", settings.margin), signals=_SIGNALS)


def _notes(shops: Sequence[Shop]) -> Iterator[str]:
    if len(shops) > 1:
        yield f"each of the {len(shops)} sites is taken for a shop of its own"
    slow = [shop.plan.stretch for shop in shops if shop.plan.stretch > 1]
    if slow:
        longest = "" if min(slow) == max(slow) else f" to {max(slow):.0f}"
        times = f"{min(slow):.0f}{longest} times as long"
        yield f"runs are farther apart than {USUAL:.0f} s: warm-up, observation and look-back are {times}, so that they hold as many runs"


# Lines


def _rows(path: Path) -> Iterator[tuple[str, str, tuple[float, bool, float]]]:
    """(site, probe, (Unix s, ok, s)) of every row that was measured."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if packed else raw as plain, io.TextIOWrapper(plain, encoding="utf-8-sig", newline="") as text:
                yield from _parsed(path, text)
    except UnicodeDecodeError as error:
        raise CommandError(USAGE, f"{path}: is no text in UTF-8 ({error.reason})") from None
    except (OSError, EOFError) as error:
        raise CommandError(USAGE, f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _parsed(path: Path, text: io.TextIOWrapper) -> Iterator[tuple[str, str, tuple[float, bool, float]]]:
    head = text.readline()
    delimiter = next((mark for mark in ",;\t" if mark in head), ",")
    names = [name.strip().lower() for name in next(csv.reader([head], delimiter=delimiter), [])]
    columns = _columns(path, names)
    reader = csv.reader(text, delimiter=delimiter)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                where = f"{path}:{reader.line_num + 1}"
                if len(cells) != len(names):
                    raise CommandError(USAGE, f"{where}: has {len(cells)} columns, the header has {len(names)}")
                yield from _row(where, dict(zip(names, map(str.strip, cells), strict=True)), columns)
    except csv.Error as error:
        raise CommandError(USAGE, f"{path}:{reader.line_num + 1}: {error}") from None


def _columns(path: Path, names: Sequence[str]) -> _Columns:
    """Where several names would do, the first of the list counts."""
    def first(known: Sequence[str], what: str) -> str:
        if found := next((name for name in known if name in names), None):
            return found
        raise CommandError(USAGE, f"{path}:1: no column holds {what}: call one of them {' or '.join(known)}; there are: {', '.join(names) or 'none'}")
    duration = first(tuple(DURATIONS), "the duration")
    site, probe = (name if name in names else "" for name in NAMES)
    return _Columns(first(TIMES, "the time"), first(OUTCOMES, "the outcome"), duration, DURATIONS[duration], site, probe)


def _row(where: str, cells: Mapping[str, str], columns: _Columns) -> Iterator[tuple[str, str, tuple[float, bool, float]]]:
    def wrong(column: str, why: str) -> CommandError:
        return CommandError(USAGE, f'{where}: column "{column}": {cells[column][:40]!r} {why}')
    at = _time(cells[columns.time])
    if at is None:
        raise wrong(columns.time, "is no time: write Unix seconds or 2026-11-24T02:14:00Z")
    if at > _TOO_LATE:
        raise wrong(columns.time, "is too large for Unix seconds: divide milliseconds by 1000")
    word = cells[columns.outcome].lower()
    ok = _outcome(word)
    if ok is None and word not in OURS:
        raise wrong(columns.outcome, "is no outcome: write 1 or 0, up or down, ok or failed, or an HTTP status")
    seconds = _duration(cells[columns.duration], columns.unit)
    if seconds is None:
        raise wrong(columns.duration, "is no duration: write a number of at least 0, or nothing when there was no answer")
    if ok is not None:
        yield cells.get(columns.site, ""), cells.get(columns.probe, ""), (at, ok, seconds)


def _time(text: str) -> float | None:
    """Unix s; a moment without a zone is UTC."""
    try:
        at = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
            at = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    return at if math.isfinite(at) and at > 0 else None


def _outcome(word: str) -> bool | None:
    if word in GOOD or word in BAD:
        return word in GOOD
    return int(word) < 400 if word.isdecimal() and len(word) == 3 and word[0] in "12345" else None


def _duration(text: str, unit: float) -> float | None:
    """Nothing at all says nothing: NaN."""
    try:
        seconds = float(text) * unit if text else math.nan
    except ValueError:
        return None
    return seconds if not text or (math.isfinite(seconds) and seconds >= 0) else None
