"""Real histories for the judge, placebo updates in them, and harm that is put into what comes after.

Definitions as in detection.md 5: an update is put at every 20th sample with 90 or more before and 60 after it; *quiet* asks an
oracle that sees both sides whether anything real happened. Names of harms and their seeds are those of the open harness.
"""

import csv
import gzip
import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BEFORE, AFTER, STRIDE, HARMED = 90, 60, 20, 400
History = np.ndarray              # rows (t in Unix s, ok, ms)


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def probes(folder: Path) -> dict[str, History]:
    """Histories of public endpoints; one that always answers with another code than asked for counts that code as ok."""
    rows = defaultdict(list)
    for line in _rows(folder / "probes.csv.gz"):
        rows[line["site"]].append((float(line["timestamp"]), line["status"] != "down", float(line["ms"]), int(line["code"])))
    return {site: history for site, found in sorted(rows.items()) if (history := _probe(found)) is not None}


def _probe(rows: list[tuple[float, bool, float, int]]) -> History | None:
    history = np.array([row[:3] for row in rows], dtype=float)
    if history[:, 1].mean() < 0.5:
        codes = Counter(row[3] for row in sorted(rows, key=lambda row: row[3]) if row[3] > 0)
        if not codes:
            return None
        usual = codes.most_common(1)[0][0]
        history[:, 1] = [row[3] == usual for row in rows]
    history[history[:, 2] <= 0, 1] = 0
    return history if len(history) >= BEFORE + AFTER and history[:, 1].mean() > 0.5 else None


def minutes(folder: Path) -> dict[str, History]:
    """90th percentiles per minute and service of two demo shops, after their last fault of the day."""
    out: dict[str, History] = {}
    for path in sorted((folder / "nezha").glob("*-minute.csv.gz")):
        quiet_from = max(at for at, _ in _injections(path.with_name(path.name.replace("-minute.csv", "-faults.json")))) + 900
        rows = defaultdict(list)
        for line in _rows(path):
            if line["p90_ms"] and float(line["timestamp"]) > quiet_from:
                rows[line["site"]].append((float(line["timestamp"]), 1.0, float(line["p90_ms"])))
        for site, found in rows.items():
            history = np.array(found)
            if len(history) >= BEFORE + AFTER and np.percentile(history[:, 2], 10) > 1:
                out[site] = history
    return out


def _injections(path: Path) -> list[tuple[int, str]]:
    """(Unix s, type) of every injected fault, in the order of time."""
    hours = json.loads(gzip.decompress(path.read_bytes()))
    return sorted((int(fault["inject_timestamp"]), fault["inject_type"]) for hour in hours.values() for fault in hour)


SETS: dict[str, Callable[[Path], dict[str, History]]] = {"probes": probes, "minute": minutes}


# Placebo updates


@dataclass(frozen=True, slots=True)
class Place:
    """A placebo update: before the row `cut` of the history of `site`."""

    site: str
    cut: int
    quiet: bool


def is_quiet(before: History, after: History) -> bool:
    """The oracle: no more failures, no slower median or tail, and no half of the window shifted."""
    past = before[-200:]
    if 1 - after[:, 1].mean() > 1 - past[:, 1].mean() + 0.05:     # in this order: 3 failures of 60 are one step too many
        return False
    old, new = past[past[:, 1] > 0, 2], after[after[:, 1] > 0, 2]
    if len(old) < 30 or len(new) < 20:
        return False
    if any(np.percentile(new, at) > most * np.percentile(old, at) for at, most in ((50, 1.15), (90, 1.35))):
        return False
    halves = new[:len(new) // 2], new[len(new) // 2:]
    return max(float(np.median(half)) for half in halves) <= 1.25 * float(np.median(old))


def placebos(histories: dict[str, History]) -> list[Place]:
    """Every placebo update."""
    return [
        Place(site, cut, is_quiet(history[:cut], history[cut:cut + AFTER]))
        for site, history in histories.items() for cut in range(BEFORE, len(history) - AFTER + 1, STRIDE)
    ]


def harmed_places(places: list[Place]) -> list[Place]:
    """The quiet ones into which harm is put: all of them, or HARMED, always the same."""
    quiet = [place for place in places if place.quiet]
    if len(quiet) <= HARMED:
        return quiet
    picked = np.random.default_rng(0).choice(len(quiet), HARMED, replace=False)
    return [quiet[at] for at in sorted(picked)]


# Harm


def slower(factor: float) -> Callable[[History, np.random.Generator], None]:
    """All durations times `factor`."""
    def harm(window: History, _random: np.random.Generator) -> None:
        window[window[:, 1] > 0, 2] *= factor
    return harm


def failing(share: float) -> Callable[[History, np.random.Generator], None]:
    """That share of the runs fails on top."""
    def harm(window: History, random: np.random.Generator) -> None:
        window[random.random(len(window)) < share, 1] = 0
    return harm


def slow_tail(window: History, random: np.random.Generator) -> None:
    """One run in ten takes five times as long."""
    window[(window[:, 1] > 0) & (random.random(len(window)) < 0.1), 2] *= 5


HARMS: dict[str, Callable[[History, np.random.Generator], None]] = {
    "x1.2": slower(1.2), "x1.5": slower(1.5), "x2": slower(2), "x3": slower(3), "fail5%": failing(0.05),
    "fail20%": failing(0.2), "outage": failing(1.0), "p95 10%x5": slow_tail,
}


def harmed(history: History, place: Place, harm: str) -> History:
    """What came after the update, with this harm in it, by a seed of its own."""
    window = history[place.cut:place.cut + AFTER].copy()
    HARMS[harm](window, np.random.default_rng(zlib.crc32(f"{place.site}{place.cut}{harm}".encode())))
    return window


# Real faults


DAY = "2022-08-22"                # of Nezha, Online Boutique; the other days are kept for checks from outside
FAULT_SECONDS, PAUSE = 180, 300   # requests that count as after an injection; how long it is no past for others
LEAST_REQUESTS = 150              # before, without which a fault cannot be judged
SLOWING = ("cpu_consumed", "cpu_contention", "network_delay")    # the others do not touch the duration of a request at the front


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that somebody injected into a demo shop, or "placebo": 60 requests after, and all clean ones before."""

    kind: str
    before: History
    after: History


def faults(folder: Path) -> list[Fault]:
    """As nezha_eval.py has them: root requests of 3 minutes thinned to 60; the minute before each injection is a placebo."""
    injected = _injections(folder / "nezha" / f"{DAY}-faults.json.gz")
    rows = ((int(row["t_ms"]) / 1000, 1.0, int(row["dur_us"]) / 1000) for row in _rows(folder / "nezha" / f"{DAY}-requests.csv.gz"))
    requests = np.array(sorted(rows))
    at = requests[:, 0]
    clean = requests[~np.any([(at >= begin) & (at < begin + PAUSE) for begin, _ in injected], axis=0)]
    out = []
    for begin, kind in injected:
        out.append(_fault(kind, clean[clean[:, 0] < begin], requests[(at >= begin + 3) & (at < begin + FAULT_SECONDS)]))
    for begin, _ in injected:
        ahead = clean[(clean[:, 0] < begin) & (clean[:, 0] > begin - 70)]
        out.append(_fault("placebo", clean[clean[:, 0] < (ahead[0, 0] if len(ahead) else 0)], ahead))
    return [fault for fault in out if fault]


def _fault(kind: str, before: History, after: History) -> Fault | None:
    if len(before) < LEAST_REQUESTS or len(after) < AFTER:
        return None
    return Fault(kind, before, after[np.linspace(0, len(after) - 1, AFTER).astype(int)])


