"""New error signatures on a real error log with injected faults (IntelligentDDS/Nezha, Train Ticket, MIT).

    python bench/judge/novelty.py DIR       # the folder with 2023-01-29-errorlog.csv.gz and 2023-01-29-faults.json.gz

Before each fault there is a minute without one. Those minutes, cut into runs of 5 s, are the past; each of them is a placebo
against the earlier ones, and the three minutes after each fault are judged against them.
"""

import csv
import gzip
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from monitor.judge.counts import CountFit
from monitor.judge.evidence import Evidence, strength
from monitor.judge.novelty import NoveltyFit

SPACING, FAULTY, CALM = 5, 180, 65          # s; the minute before ends 5 s before the fault
LEAST = 90                                  # runs of a past
_MASKED = re.compile(r"\b(?=\w*\d)\w[\w:.-]*|\[[^\]]*:[^\]]*\]?")
Run = dict[str, float]


def signature(service: str, message: str) -> str:
    """Level, service, logger and the text without what changes."""
    _, level, logger, *rest = message.split(maxsplit=3)
    text = re.sub(r"(TraceID|SpanID): \S+", "", rest[0] if rest else "")
    return f"{level.lower()}: {service} {logger} {_MASKED.sub('*', text)[:60]}"


def log_of(folder: Path) -> dict[int, Run]:
    """Signatures by slice of 5 s."""
    slices: dict[int, Run] = defaultdict(Counter)
    with gzip.open(folder / "2023-01-29-errorlog.csv.gz", "rt", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            if int(row["t_ms"]) > 0:
                slices[int(row["t_ms"]) // 1000 // SPACING][signature(row["service"], row["message"])] += 1
    return slices


def faults(folder: Path, slices: dict[int, Run]) -> list[tuple[int, str]]:
    """(moment, type); most of the moments are 8 hours behind the log."""
    with gzip.open(folder / "2023-01-29-faults.json.gz", "rt", encoding="utf-8") as file:
        listed = [(int(f["inject_timestamp"]), f["inject_type"]) for hour in json.load(file).values() for f in hour]
    out = []
    for moment, kind in sorted(set(listed)):
        logged = [sum(len(slices.get((at + s) // SPACING, ())) for s in range(0, FAULTY, SPACING)) for at in (moment, moment + 28800)]
        out.append((moment + 28800 * (logged[1] > logged[0]), kind))
    return sorted(out)


def runs(slices: dict[int, Run], begin: int, seconds: int) -> list[Run]:
    """The log of these seconds, run by run."""
    return [slices.get(at // SPACING, {}) for at in range(begin, begin + seconds, SPACING)]


def alarm(evidence: Evidence, readings: Sequence[object]) -> int | None:
    """Seconds to the alarm of a lone signal."""
    for place, reading in enumerate(readings, 1):
        evidence.add(reading)
        if strength(evidence, 1.0) >= 0:
            return place * SPACING
    return None


def novelty(past: Sequence[Run], after: Sequence[Run]) -> int | None:
    """By new signatures."""
    return alarm(NoveltyFit.of(past).start(60), after)


def errors(past: Sequence[Run], after: Sequence[Run]) -> int | None:
    """By the number of lines."""
    fit = CountFit.of([sum(run.values()) for run in past])
    return alarm(fit.start(60), [sum(run.values()) for run in after]) if fit else None


def anything(past: Sequence[Run], after: Sequence[Run]) -> int | None:
    """The rule of thumb: a signature that was never seen is an alarm."""
    known = {name for run in past for name in run}
    return next((place * SPACING for place, run in enumerate(after, 1) if run.keys() - known), None)


def main() -> None:
    """Prints one table."""
    folder = Path(sys.argv[1])
    slices = log_of(folder)
    rules: dict[str, Callable[[Sequence[Run], Sequence[Run]], int | None]] = {
        "anything new": anything, "novelty": novelty, "count": errors}
    calm: list[Run] = []
    false: dict[str, list[int | None]] = defaultdict(list)
    found: dict[str, dict[str, list[int | None]]] = defaultdict(lambda: defaultdict(list))
    for moment, kind in faults(folder, slices):
        before = runs(slices, moment - CALM, 60)
        if len(calm) >= LEAST:
            for name, rule in rules.items():
                false[name].append(rule(calm, before))
                found[name][kind].append(rule([*calm, *before], runs(slices, moment, FAULTY)))
        calm += before
    print("| rule | false alarms in a minute without a fault | faults found, median s |\n|---|---|---|")
    for name in rules:
        told = []
        for kind, times in sorted(found[name].items()):
            hits = sorted(time for time in times if time is not None)
            told.append(f"{kind} {len(hits)} of {len(times)}" + (f" ({hits[len(hits) // 2]})" if hits else ""))
        print(f"| {name} | {sum(time is not None for time in false[name])} of {len(false[name])} | {', '.join(told)} |")


if __name__ == "__main__":
    main()
