"""Measures the judge on real histories: false alarms on placebo updates, delays on harm put into quiet ones, share of PASS.

    .venv/bin/python bench/judge/run.py --data DIR [--set probes|minute] [--every 1] [--passes]

DIR holds the open data (its README.md says what it is). Definitions as in detection.md 5: an update is put at every 20th
sample with 90 or more before and 60 after it; *quiet* asks an oracle that sees both sides whether anything real happened.
"""

import argparse
import csv
import gzip
import json
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.judge import adapter
from monitor.judge.verdict import Case, Judging

BEFORE, AFTER, STRIDE, INJECTED, WATCHED = 90, 60, 20, 400, 240
History = np.ndarray              # rows (t in Unix s, ok, ms)


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


def probes(folder: Path) -> dict[str, History]:
    """Histories of public endpoints; one that always answers with another code than asked for counts that code as ok."""
    rows = defaultdict(list)
    with gzip.open(folder / "probes.csv.gz", "rt", encoding="utf-8") as file:
        for line in csv.DictReader(file):
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
        faults = json.loads(gzip.decompress(path.with_name(path.name.replace("-minute.csv", "-faults.json")).read_bytes()))
        quiet_from = max(int(fault["inject_timestamp"]) for hour in faults.values() for fault in hour) + 900
        rows = defaultdict(list)
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in csv.DictReader(file):
                if line["p90_ms"] and float(line["timestamp"]) > quiet_from:
                    rows[line["site"]].append((float(line["timestamp"]), 1.0, float(line["p90_ms"])))
        for site, found in rows.items():
            history = np.array(found)
            if len(history) >= BEFORE + AFTER and np.percentile(history[:, 2], 10) > 1:
                out[site] = history
    return out


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


def placebos(histories: dict[str, History]) -> list[tuple[str, int, bool]]:
    """(site, place of the update, quiet) of every placebo update."""
    return [
        (site, cut, is_quiet(history[:cut], history[cut:cut + AFTER]))
        for site, history in histories.items() for cut in range(BEFORE, len(history) - AFTER + 1, STRIDE)
    ]


def delays(histories: dict[str, History], chosen: list[tuple[str, int, bool]], name: str) -> Iterator[int | None]:
    """Samples to the alarm, harm `name` put into each of the chosen windows by its own seed."""
    for site, cut, _ in chosen:
        history = histories[site]
        window = history[cut:cut + AFTER].copy()
        HARMS[name](window, np.random.default_rng(zlib.crc32(f"{site}{cut}{name}".encode())))
        found = adapter.detect(history[:cut], iter(window))
        yield None if found is None else found + 1


def passes(histories: dict[str, History], chosen: list[tuple[str, int, bool]]) -> list[tuple[str, int]]:
    """(verdict, samples it took) of the quiet updates that have WATCHED samples after them."""
    out = []
    for site, cut, _ in chosen:
        history = histories[site]
        if len(history) >= cut + WATCHED:
            case = Case([adapter.before(history[:cut])], Judging(), watch=WATCHED * adapter.SPACING)
            out.append(_verdict(case, history[cut:cut + WATCHED]))
    return out


def _verdict(case: Case, window: History) -> tuple[str, int]:
    for count, row in enumerate(window, 1):
        case.add(adapter.KEY, adapter.run_of(row), warm=False)
        if case.alarm or count % 5 == 0:
            verdict = case.ruling(final=True, over=count == len(window)).verdict
            if verdict != "watching":
                return verdict, count
    return "inconclusive", len(window)


def main() -> None:
    """Prints one row as in detection.md 9, and on demand how good updates end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=("probes", "minute"), default="probes")
    parser.add_argument("--every", type=int, default=1, help="thin the windows that harm is put into")
    parser.add_argument("--passes", action="store_true", help="also: how quiet updates of 240 samples end")
    given = parser.parse_args()
    histories = probes(given.data) if given.set == "probes" else minutes(given.data)
    every = placebos(histories)
    alarms = [adapter.detect(histories[site][:cut], iter(histories[site][cut:cut + AFTER])) is not None for site, cut, _ in every]
    quiet = [place for place in every if place[2]]
    false = [alarm for alarm, place in zip(alarms, every, strict=True) if place[2]]
    print(f"placebos {len(every)}, quiet {len(quiet)}; false alarms per 100: all {100 * np.mean(alarms):.1f}, "
          f"quiet {100 * np.mean(false):.1f}")
    if len(quiet) > INJECTED:
        picked = np.random.default_rng(0).choice(len(quiet), INJECTED, replace=False)
        chosen = [quiet[place] for place in sorted(picked)]
    else:
        chosen = quiet
    for name in HARMS:
        found = list(delays(histories, chosen[::given.every], name))
        hits = [count for count in found if count]
        print(f"{name:>10}  {100 * len(hits) / len(found):3.0f} %  median {np.median(hits) if hits else 0:.0f} samples")
    if given.passes:
        ends = passes(histories, chosen[::given.every])
        counts = Counter(verdict for verdict, _ in ends)
        took = [count for verdict, count in ends if verdict == "pass"]
        print(f"quiet updates of {WATCHED} samples: {dict(counts)}; pass after a median of {np.median(took) if took else 0:.0f}")


if __name__ == "__main__":
    main()
