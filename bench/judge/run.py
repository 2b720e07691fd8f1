"""Measures our judge and others on real histories: false alarms on placebo updates, delays on harm put into quiet ones.

    .venv/bin/python bench/judge/run.py --data DIR [--set probes|minute] [--only NAME,NAME] [--faults] [--curve] [--passes]
    .venv/bin/python bench/judge/run.py --data DIR --docs docs/judge.md         # all of it, into the tables of that page

DIR holds the open data (its README.md says what it is). Definitions are in histories.py.
"""

import argparse
import json
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.judge import tables
from bench.judge.histories import AFTER, HARMS, SETS, SLOWING, Fault, History, Place, faults, harmed, harmed_places, placebos
from bench.judge.rivals import RIVALS, Detector
from bench.judge.tables import OURS, Found, Row

RATES = (0.001, 0.003, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.4)     # update.false_alarm_rate of the trade-off
TRADED = ("x1.2", "fail5%", "p95 10%x5")
RATE = "rate "                    # begins the name of our judge at another rate
WATCHED = 240                     # samples within which a good update may pass
Answers = dict[str, dict[str, int | None]]      # by detector, then by harm ("" for none): samples to the alarm

_histories: dict[str, History] = {}   # of a working process


@cache
def detector(name: str) -> Detector:
    """The detector of this name. Ours is imported only where it is wanted: the others need none of the product's packages."""
    if name == OURS:
        from bench.judge import adapter
        return adapter.detect
    if name.startswith(RATE):
        from bench.judge import adapter
        from monitor.judge.verdict import Judging
        return adapter.detector(Judging(false_alarm_rate=float(name.removeprefix(RATE))))
    return next(rival.detect for rival in RIVALS if rival.name == name)


def answers(task: tuple[Place, tuple[str, ...], bool]) -> Answers:
    """What these detectors say to one placebo update, and on demand to the same one with harm in it."""
    place, names, with_harm = task
    history = _histories[place.site]
    past = history[:place.cut]
    out: Answers = {}
    for name in names:
        out[name] = {"": _samples(detector(name)(past, iter(history[place.cut:place.cut + AFTER])))}
        if with_harm:
            out[name] |= {harm: _samples(detector(name)(past, iter(harmed(history, place, harm)))) for harm in _harms(name)}
    return out


def _samples(index: int | None) -> int | None:
    return None if index is None else index + 1


def _harms(name: str) -> Iterable[str]:
    return TRADED if name.startswith(RATE) else HARMS


def passed(place: Place) -> tuple[str, int] | None:
    """(verdict, samples it took) of a good update that is watched for WATCHED samples; None when there are not as many."""
    from bench.judge import adapter
    from monitor.judge.verdict import Case, Judging

    history = _histories[place.site]
    window = history[place.cut:place.cut + WATCHED]
    if len(window) < WATCHED:
        return None
    case = Case([adapter.before(history[:place.cut], horizon=WATCHED)], Judging(), watch=WATCHED * adapter.SPACING)
    for count, row in enumerate(window, 1):
        if run := adapter.run_of(row):
            case.add(adapter.KEY, run, warm=False)
        if case.alarm or count % 5 == 0:
            verdict = case.ruling(final=True, over=count == WATCHED).verdict
            if verdict != "watching":
                return verdict, count
    return "inconclusive", WATCHED


def _take(histories: dict[str, History]) -> None:
    _histories.update(histories)


def spread(work: Callable[[Any], Any], tasks: list[Any], histories: dict[str, History], jobs: int, what: str) -> Iterator[Any]:
    """`work` done for every task by processes, in order; says on stderr how far it is."""
    begun, told = time.monotonic(), 0.0
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("fork"), initializer=_take, initargs=(histories,)) as pool:
        for done, found in enumerate(pool.map(work, tasks, chunksize=4), 1):
            yield found
            now = time.monotonic()
            if now - told > 5 or done == len(tasks):
                told = now
                left = (now - begun) / done * (len(tasks) - done)
                print(f"{what}: {done} of {len(tasks)}, about {left:.0f} s left", file=sys.stderr, flush=True)


def measure(set_: str, histories: dict[str, History], names: list[str], every: int, jobs: int) -> list[Row]:
    """One row for each detector."""
    places = placebos(histories)
    chosen = set(harmed_places(places)[::every])
    said = list(spread(answers, [(place, tuple(names), place in chosen) for place in places], histories, jobs, set_))
    return [_row(name, set_, places, [by_name[name] for by_name in said]) for name in names]


def _row(name: str, set_: str, places: list[Place], said: list[dict[str, int | None]]) -> Row:
    false = [(place.quiet, of[""] is not None) for place, of in zip(places, said, strict=True)]
    harms = {harm: [of[harm] for of in said if harm in of] for harm in _harms(name)}
    return Row(
        name, set_, len(false), sum(alarm for _, alarm in false), sum(quiet for quiet, _ in false),
        sum(quiet and alarm for quiet, alarm in false), {harm: _found(counts) for harm, counts in harms.items()})


def _found(counts: list[int | None]) -> Found:
    hits = sorted(count for count in counts if count is not None)
    return Found(len(counts), len(hits), float(np.median(hits)) if hits else None)


def judged_faults(of: list[Fault], names: list[str]) -> dict[str, dict[str, Found]]:
    """By detector, then by type of fault ("placebo" for none; "slowing" for those that touch a request's duration together)."""
    out = {}
    for name in names:
        counts = [(fault.kind, _samples(detector(name)(fault.before, iter(fault.after)))) for fault in of]
        kinds = sorted({kind for kind, _ in counts})
        out[name] = {kind: _found([count for of_kind, count in counts if of_kind == kind]) for kind in kinds}
        out[name]["slowing"] = _found([count for of_kind, count in counts if of_kind in SLOWING])
    return out


def ends(histories: dict[str, History], every: int, jobs: int) -> Counter[str]:
    """How good updates end, by verdict, and the median number of samples to a PASS as "after"."""
    found = [end for end in spread(passed, harmed_places(placebos(histories))[::every], histories, jobs, "passes") if end]
    took = [count for verdict, count in found if verdict == "pass"]
    return Counter(verdict for verdict, _ in found) | Counter({"after": int(np.median(took)) if took else 0})


def chosen_names(only: str) -> list[str]:
    """Names of the detectors that are asked for and can run."""
    names = [OURS, *(rival.name for rival in RIVALS)]
    wanted = [name for name in names if any(part.lower() in name.lower() for part in only.split(","))]
    unfit = {rival.name for rival in RIVALS if not rival.can_run}
    for name in unfit.intersection(wanted):
        print(f"not run: {name} (its package is not installed: bench/README.md)", file=sys.stderr)
    return [name for name in wanted if name not in unfit]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--set", choices=sorted(SETS), default="probes")
    parser.add_argument("--only", default="", help="parts of names of detectors, with commas")
    parser.add_argument("--every", type=int, default=1, help="thin the windows that harm is put into")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--faults", action="store_true", help="real injected faults instead")
    parser.add_argument("--curve", action="store_true", help="our judge at several false-alarm rates instead")
    parser.add_argument("--passes", action="store_true", help=f"also: how our judge ends quiet updates of {WATCHED} samples")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--docs", type=Path, help="measure everything and rewrite the tables of this page; rows that cannot be run stay")
    return parser.parse_args()


def main() -> None:
    """Prints the tables that are asked for."""
    given = arguments()
    if given.docs and (lacking := tables.lacking(given.docs.read_text(encoding="utf-8"))):
        sys.exit(f"{given.docs} has no measured block {', '.join(lacking)}")
    names = chosen_names(given.only)
    results: dict[str, Any] = {}
    sets = sorted(SETS, reverse=True) if given.docs else [given.set]
    if given.faults or given.docs:
        results["faults"] = judged_faults(faults(given.data), names)
        print("\n".join(tables.faults(results["faults"])), flush=True)
    if given.docs or not given.faults:
        for set_ in sets:
            histories = SETS[set_](given.data)
            rates = [f"{RATE}{rate:g}" for rate in RATES] if given.curve or (given.docs and set_ == "probes" and OURS in names) else []
            asked = rates if given.curve else [*names, *rates]
            rows = measure(set_, histories, asked, given.every, given.jobs)
            results[set_] = {"sites": len(histories), "runs": sum(map(len, histories.values())), "rows": rows}
            lines = tables.curve(rows, RATE) if given.curve else tables.rows([row for row in rows if row.name in names])
            print("\n".join(lines), flush=True)
            if given.passes or (given.docs and OURS in names):
                results[set_]["ends"] = ends(histories, given.every, given.jobs)
                print(tables.passes(results[set_]["ends"], WATCHED), flush=True)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1, default=asdict))
    if given.docs:
        every = [*(rival.name for rival in RIVALS), OURS]
        page = tables.into_page(given.docs.read_text(encoding="utf-8"), results, names, every, RATE)
        given.docs.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
