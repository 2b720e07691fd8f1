"""Time of day and days that differ: false alarms and harm found on the daily profiles of real services.

    python bench/judge/days.py DIR          # the folder of microsoft/cloud-monitoring-dataset's csv.gz files (MIT)

Each hourly series of response times is taken as the level of a page (straight lines between the hours), and the scatter of
single runs is put on top: a run every 30 s, sigma 0.15, alike from run to run by 0.7. From its third week on there is an
update every 8 hours, watched for two, that changes nothing but by the harm put in. "quiet" are those in whose two hours, and the
four before, the experts of the data set saw nothing. What judges is the daemon's own `freeze` and `Case`.
"""

import csv
import gzip
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from monitor.judge.baseline import WORTH_READING, Baseline, freeze
from monitor.judge.season import DAY, ENOUGH
from monitor.judge.signals import Margin, Run, Subject
from monitor.judge.verdict import Case, Judging
from monitor.judge.wander import wander
from probes.sample import Signal

PAGE = Subject("page", "", "", "http", True, False, Margin(), (Signal("success", "bernoulli"), Signal("duration", "latency")))
PAST, STEP, WATCHED, SPACING = 14 * DAY, 8 * 3600.0, 7200.0, 30.0
SIGMA, MEMORY = 0.15, 0.7
HARMS = (1.0, 1.2, 1.5, 2.0)
KNOWING = ("nothing", "the time of day", "and the wander")
Level = list[tuple[float, float, bool]]            # Unix s, response time, labelled as an anomaly


def levels(folder: Path) -> Iterator[tuple[str, Level]]:
    """The series of response times, without those that often have none."""
    for path in sorted(folder.glob("ms_*latency*.csv.gz")):
        with gzip.open(path, "rt", encoding="utf-8-sig") as lines:
            rows = [(_time(row[0]), float(row[1] or 0), row[2] == "1") for row in list(csv.reader(lines))[1:]]
        low = sorted(value for _, value, _ in rows)[len(rows) // 20]
        if low > 0:
            yield path.name.split("__")[1].split(".")[0], [(at, max(value, low / 5), label) for at, value, label in rows]


def _time(text: str) -> float:
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def runs(level: Level, times: Sequence[float], memory: float, random: Random) -> list[Run]:
    """Runs at these times."""
    state, place, out = random.gauss(0, 1), 0, []
    for at in times:
        while level[place + 1][0] <= at:
            place += 1
        (begin, low, _), (end, high, _) = level[place], level[place + 1]
        state = memory * state + math.sqrt(1 - memory * memory) * random.gauss(0, 1)
        out.append(Run(at, True, (low + (high - low) * (at - begin) / (end - begin)) * math.exp(SIGMA * state), SPACING))
    return out


def updates(level: Level) -> Iterator[tuple[list[Run], list[Run], list[Run], bool]]:
    """(history, newest runs before, runs after, whether it is quiet) of each update."""
    at = level[0][0] + PAST + 1800
    while at + WATCHED < level[-1][0]:
        random = Random(at)
        history = runs(level, [at - PAST + place * PAST / ENOUGH for place in range(ENOUGH)], 0.0, random)
        near = runs(level, [at + place * SPACING for place in range(-WORTH_READING, int(WATCHED / SPACING))], MEMORY, random)
        quiet = not any(label for when, _, label in level if at - 4 * 3600 <= when <= at + WATCHED)
        yield history, near[:WORTH_READING], near[WORTH_READING:], quiet
        at += STEP


def alarmed(frozen: Baseline, after: Sequence[Run], harm: float) -> bool:
    """Is the update called worse, within the half of the budget that it has after its finish?"""
    case = Case([frozen], Judging(), share=0.5, watch=WATCHED)
    for run in after:
        case.add(PAGE.key, replace(run, seconds=run.seconds * harm), warm=False)
        if case.alarm:
            return True
    return False


def main(folder: Path) -> None:
    found = {(knowing, harm, quiet): 0 for knowing in KNOWING for harm in HARMS for quiet in (False, True)}
    count = {False: 0, True: 0}
    for name, level in levels(folder):
        for history, before, after, quiet in updates(level):
            count[quiet] += 1
            for knowing in KNOWING:
                with patch("monitor.judge.baseline.wander", wander if knowing == KNOWING[2] else lambda *_: 1.0):
                    frozen = freeze(PAGE, before, spacing=SPACING, horizon=0, history=() if knowing == KNOWING[0] else history)
                for harm in HARMS:
                    found[knowing, harm, quiet] += alarmed(frozen, after, harm)
        print(f"{name}: {sum(count.values())} updates", file=sys.stderr, flush=True)
    print(f"{sum(count.values())} updates, {count[True]} quiet\n")
    print("| knowing | quiet, false per 100 | all, false per 100 | " + " | ".join(f"x{harm:g}" for harm in HARMS[1:]) + " |")
    print("|---" * (3 + len(HARMS[1:])) + "|")
    for knowing in KNOWING:
        every = [100 * (found[knowing, harm, False] + found[knowing, harm, True]) / sum(count.values()) for harm in HARMS]
        print(f"| {knowing} | {100 * found[knowing, 1.0, True] / count[True]:.1f} | {every[0]:.1f} | "
              + " | ".join(f"{share:.0f} %" for share in every[1:]) + " |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
