"""Measures the judge on simulated shops under the shipped defaults: false regressions, the way to a PASS, and many signals at once.

    .venv/bin/python bench/judge/shops.py [--only A|B|C] [--updates 200] [--jobs 2] [--seed 1] [--match WORDS]

A  shops that an update does not change: false regressions per 100, share of PASS and how long it takes;
B  one of 20 probes gets worse: the delay beside that of the same probe alone; and 100 probes of which none does;
C  checkouts at several spacings: which of them lets good updates pass within 45 minutes.

Time is simulated, everything else is what the daemon runs: `freeze`, then one `Case` for each of the two segments of an update.
"""

import argparse
import math
import multiprocessing
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.judge.simulated import BURST_EVERY, CHECKOUT, FAILING, SETTINGS, End, Shop, Target, Weather, delays, target, updated, usual_shop
from monitor.judge.distributions import wilson

SOON = 2700.0                     # s after finish within which good updates shall pass
HARMS = ("x1.5", "fail 20 %", "outage")

T = TypeVar("T")


# Tables


def spread(work: Callable[[int], T], given: argparse.Namespace) -> list[T]:
    """`work` for as many seeds as there are updates, in processes."""
    seeds = range(given.seed * 1_000_000, given.seed * 1_000_000 + given.updates)
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("fork")) as pool:
        out = []
        for result in pool.map(work, seeds, chunksize=max(1, min(10, given.updates // (4 * given.jobs)))):
            out.append(result)
            if len(out) % 50 == 0:
                print(f"  {len(out)} of {given.updates}", file=sys.stderr, flush=True)
        return out


def of_a_hundred(hits: int, tries: int) -> str:
    """A rate per 100 with its Wilson interval."""
    low, high = wilson(hits, tries, 1.96)
    return f"{100 * hits / tries:.1f} ({100 * low:.1f}–{100 * high:.1f})"


def line(*cells: object) -> None:
    """One row of a Markdown table."""
    print("| " + " | ".join(str(cell) for cell in cells) + " |", flush=True)


def head(*cells: str) -> None:
    """The first two rows."""
    line(*cells)
    line(*("---" for _ in cells))


ENDS = ("updates", "false per 100 (95 %)", "PASS %", "PASS within 45 min %", "PASS after, min: median / p90", "no PASS because", "false by",
        "runs needed: median (p90)")


def ends(found: Sequence[End]) -> tuple[object, ...]:
    """The cells under ENDS."""
    false = [end for end in found if end.verdict == "regression"]
    took = sorted(end.after_finish for end in found if end.verdict == "pass")
    others = Counter(end.reason for end in found if end.verdict not in {"pass", "regression"})
    percent = 100 / len(found)
    return (len(found), of_a_hundred(len(false), len(found)), f"{percent * len(took):.0f}",
            f"{percent * sum(1 for seconds in took if seconds <= SOON):.0f}",
            f"{median(took) / 60:.0f} / {took[int(0.9 * (len(took) - 1))] / 60:.0f}" if took else "never",
            _said(others), _said(Counter(end.cause for end in false)), _runs_needed(found))


def _said(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common()) or "–"


def _runs_needed(found: Sequence[End]) -> str:
    by_name: dict[str, list[float]] = {}
    for end in found:
        for name, count in end.needed:
            by_name.setdefault(name, []).append(math.inf if count is None else count)
    return ", ".join(f"{name} {_places(sorted(counts))}" for name, counts in by_name.items())


def _places(ordered: Sequence[float]) -> str:
    return f"{ordered[len(ordered) // 2]:.0f} ({ordered[int(0.9 * (len(ordered) - 1))]:.0f})"


# The three parts


def unchanged(seed: int, weather: Weather, targets: Sequence[Target], age: float = SETTINGS.baseline, *, power: bool = True) -> End:
    """An update of one shop that changes nothing."""
    return updated(Shop(targets, weather, seed, age), power=power)


def part_a(given: argparse.Namespace) -> None:
    """Unchanged shops; the last row has only half a day of history, which is the regular spacing."""
    print(f"\n### A. Nothing changed (spread of durations {given.sigma})\n")
    head("memory, s", "failing", "history", *ENDS)
    weathers = [Weather(memory, failing, given.sigma) for failing in FAILING for memory in (60.0, 300.0, 0.0)]
    for weather, age in [*((weather, SETTINGS.baseline) for weather in weathers), *((weather, BURST_EVERY * 2) for weather in weathers[:2])]:
        if given.match in f"{weather.memory:.0f} {weather.failing} {age / 86400:g} d":
            found = spread(partial(unchanged, weather=weather, targets=usual_shop(), age=age, power=not given.alarms), given)
            line(f"{weather.memory:.0f}", weather.failing, f"{age / 86400:g} d", *ends(found))


def many(count: int, critical: int) -> list[Target]:
    """So many pages, of which the first ones are critical."""
    return [target(f"page{number}", critical=number < critical) for number in range(count)]


def raced(seed: int, harm: str, critical: int, first: int, weather: Weather) -> tuple[float, float]:
    """`delays` for 20 pages of which so many are critical; the page number `first` gets worse."""
    targets = many(20, critical)
    targets.insert(0, targets.pop(first))
    return delays(Shop(targets, weather, seed), harm)


def crowd(seed: int, weather: Weather, most: float = SOON) -> End:
    """An update of a shop with 100 pages, 20 of them critical, watched for `most` s after its finish."""
    return updated(Shop(many(100, 20), weather, seed), power=False, observe=most)


def part_b(given: argparse.Namespace) -> None:
    """Many signals."""
    print("\n### B. One of 20 pages gets worse (40 signals), beside the same page alone\n")
    head("harm", "memory, s", "critical", "worse page", "updates", "found alone %", "found of 20 %", "median runs alone", "of 20", "ratio")
    for critical, first in ((2, 0), (2, 5), (0, 0)):
        for memory in (0.0, 60.0):
            for harm in HARMS:
                if given.match in f"{harm} {memory:.0f} {critical}":
                    weather = Weather(memory, sigma=given.sigma)
                    found = spread(partial(raced, harm=harm, critical=critical, first=first, weather=weather), given)
                    _race(harm, f"{memory:.0f}", str(critical), "critical" if first < critical else "other", found)
    print("\n200 signals (100 pages, 20 critical), none worse, watched for 45 min after finish\n")
    head("memory, s", "failing", "updates", "false per 100 (95 %)", "false by")
    for memory, failing in ((60.0, "never"), (300.0, "never"), (60.0, "40 s")):
        if given.match in f"crowd {memory:.0f} {failing}":
            quiet = spread(partial(crowd, weather=Weather(memory, failing, given.sigma)), given)
            false = [end for end in quiet if end.verdict == "regression"]
            line(f"{memory:.0f}", failing, len(quiet), of_a_hundred(len(false), len(quiet)), _said(Counter(end.cause for end in false)))


def _race(harm: str, memory: str, critical: str, worse: str, found: Sequence[tuple[float, float]]) -> None:
    alone, among = zip(*found, strict=True)
    shares = [f"{100 * sum(map(math.isfinite, runs)) / len(found):.0f}" for runs in (alone, among)]
    line(harm, memory, critical, worse, len(found), *shares, f"{median(alone):g}", f"{median(among):g}", f"{median(among) / median(alone):.2f}")


def part_c(given: argparse.Namespace) -> None:
    """Checkouts at several spacings during an update, their past from bursts of that spacing or always at it."""
    print(f"\n### C. The spacing of checkouts while an update is watched (durations: spread {given.sigma}, memory {given.memory:g} s)\n")
    head("checkout every, s", "past", "checkouts fail", *ENDS)
    for failing in ("never", "1 %"):
        for spacing in (300.0, 150.0, 100.0, 75.0, 60.0):
            for past in ("always",) if spacing == CHECKOUT else ("always", "bursts"):
                if given.match in f"{spacing:.0f} {past} {failing}":
                    shop = usual_shop(spacing if past == "always" else CHECKOUT, spacing)
                    work = partial(unchanged, weather=Weather(given.memory, failing, given.sigma), targets=shop)
                    line(f"{spacing:.0f}", past, failing, *ends(spread(work, given)))


PARTS = {"A": part_a, "B": part_b, "C": part_c}


def main() -> None:
    """Prints the tables of the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(PARTS), help="one of the parts; all of them if left out")
    parser.add_argument("--updates", type=int, default=200, help="a row")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sigma", type=float, default=0.3, help="spread of the logarithm of durations, in A and C")
    parser.add_argument("--memory", type=float, default=60.0, help="of the durations in C, in s")
    parser.add_argument("--alarms", action="store_true", help="A without power: nothing passes, each is watched for 2 h, ten times as quick")
    parser.add_argument("--match", default="", help="only rows whose first cells, joined by blanks, hold this; the 200 signals begin with crowd")
    given = parser.parse_args()
    for name, part in PARTS.items():
        if given.only in {None, name}:
            part(given)


if __name__ == "__main__":
    main()
