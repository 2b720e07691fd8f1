"""Counts on real series: false alarms of placebo days and doubled counts found, against a Poisson test of the same form.

    python bench/judge/counts.py DIR        # the folder of microsoft/cloud-monitoring-dataset's csv.gz files (MIT)

Every day with at least 100 hours before it is a placebo update: 24 hours, looked at after each. "quiet" days are those
which the experts of the data set gave no label, neither on the day nor in the hours before that it is compared with.
"""

import csv
import gzip
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from monitor.judge.baseline import NEWEST
from monitor.judge.counts import MULTIPLES, CountFit
from monitor.judge.effect import count_change
from monitor.judge.sequential import LONE_NEED, Bets

KINDS = {"crash": 1000.0, "purchase": 1.0, "rps": 60.0}      # what makes counts of their numbers
DAY, LEAST = 24, 100
NOMINAL = math.log(100)           # 1 %
Series = list[tuple[float, bool]]  # events, labelled as an anomaly
Detector = Callable[[Sequence[float], Sequence[float]], int | None]


def series(folder: Path) -> Iterator[tuple[str, Series]]:
    """Every series of counts."""
    for path in sorted(folder.glob("ms_*.csv.gz")):
        scale = next((scale for kind, scale in KINDS.items() if kind in path.name), None)
        if scale is None:
            continue
        with gzip.open(path, "rt", encoding="utf-8-sig") as lines:
            rows = [(float(row["Value"]), row["Label"] == "1") for row in csv.DictReader(lines) if row["Value"]]
        whole = all(value == int(value) for value, _ in rows)
        yield path.name, [(round(value * (1.0 if whole else scale)), label) for value, label in rows]


def poisson(past: Sequence[float], after: Sequence[float]) -> int | None:
    """The same bets, had the counts the spread of a Poisson distribution."""
    mean, bets = sum(past) / len(past) + 0.5, Bets(3, DAY)
    for place, events in enumerate(after):
        bets.add(tuple(math.exp(max(min(events * math.log(r) - mean * (r - 1), 300.0), -300.0)) for r in MULTIPLES["up"]))
        if math.log(sum(bets.holdings) / 3 + bets.reserve) >= NOMINAL:
            return place
    return None


def ours(need: float, *, gated: bool, temper: float = 1.0) -> Detector:
    """The judge's own test of a count, alone; its tempering to the power `temper`."""
    def detect(past: Sequence[float], after: Sequence[float]) -> int | None:
        fit = CountFit.of(past)
        if fit is None:
            return None
        evidence = replace(fit, temper=fit.temper ** temper).start(60)
        for place, events in enumerate(after):
            evidence.add(events)
            if math.log(evidence.gated_bet() if gated else evidence.bet()) >= need:
                return place
        return None
    return detect


def days(rows: Series) -> Iterator[tuple[list[float], list[float], bool]]:
    """(hours before, the day, quiet) of every placebo."""
    for begin in range(LEAST, len(rows) - DAY + 1, DAY):
        past, day = rows[max(begin - NEWEST, 0):begin], rows[begin:begin + DAY]
        yield [v for v, _ in past], [v for v, _ in day], not any(label for _, label in (*past[-DAY:], *day))


def measured(folder: Path, detect: Detector) -> tuple[list[bool], list[bool], list[int | None]]:
    """Alarms on all days, on quiet days, and when doubled counts were found on quiet days that did not alarm anyway."""
    every, quiet, doubled = [], [], []
    for _, rows in series(folder):
        for past, day, is_quiet in days(rows):
            alarm = detect(past, day) is not None
            every.append(alarm)
            if is_quiet:
                quiet.append(alarm)
                if not alarm:
                    doubled.append(detect(past, [2 * value for value in day]))
    return every, quiet, doubled


def coverage(folder: Path) -> tuple[int, int]:
    """Quiet days on which the interval of the change holds 1, of all of them."""
    held = total = 0
    for _, rows in series(folder):
        for past, day, is_quiet in days(rows):
            fit = CountFit.of(past)
            change = count_change(fit, day) if is_quiet and fit else None
            if change:
                total += 1
                held += change[0] <= 1 <= change[2]
    return held, total


def share(hits: Sequence[bool]) -> str:
    """Per hundred."""
    return f"{100 * sum(hits) / max(len(hits), 1):.1f} ({sum(hits)} of {len(hits)})"


def main() -> None:
    """Prints one table."""
    folder = Path(sys.argv[1])
    detectors = {
        "Poisson, 1 %": poisson,
        "negative binomial, not tempered, 1 %": ours(NOMINAL, gated=False, temper=0.0),
        "tempered by the root of V, 1 %": ours(NOMINAL, gated=False, temper=0.5),
        "tempered by V, 1 %": ours(NOMINAL, gated=False),
        "as shipped: tempered by V, a lone signal, gated": ours(LONE_NEED, gated=True),
    }
    print("| test | false alarms per 100 days, all | quiet | doubled found, % | median hours |\n|---|---|---|---|---|")
    for name, detect in detectors.items():
        every, quiet, doubled = measured(folder, detect)
        found = sorted(place + 1 for place in doubled if place is not None)
        middle = found[len(found) // 2] if found else "-"
        print(f"| {name} | {share(every)} | {share(quiet)} | {share([d is not None for d in doubled])} | {middle} |")
    held, total = coverage(folder)
    print(f"\nThe interval of the change holds 1 on {held} of {total} quiet days.")


if __name__ == "__main__":
    main()
