"""The judge on real histories (tests/data/upptime): placebo updates stay quiet, harm put into them is found, holes do not matter."""

import csv
import gzip
import math
from collections import defaultdict
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles

import pytest

from bench.judge import adapter

HISTORIES = Path(__file__).parents[1] / "data" / "upptime" / "probes.csv.gz"
BEFORE, AFTER = 100, 60
Row = tuple[float, float, float]          # Unix s, ok, ms


@cache
def histories() -> dict[str, list[Row]]:
    rows = defaultdict(list)
    with gzip.open(HISTORIES, "rt", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            ok = line["status"] != "down" and float(line["ms"]) > 0
            rows[line["site"]].append((float(line["timestamp"]), float(ok), float(line["ms"])))
    return dict(rows)


def failing(rows: list[Row]) -> float:
    return sum(1 - ok for _, ok, _ in rows) / len(rows)


def timed(rows: list[Row]) -> list[float]:
    return [ms for _, ok, ms in rows if ok]


def is_quiet(past: list[Row], window: list[Row]) -> bool:
    """Nothing real happened: as in bench/judge/histories.py, without numpy."""
    old, new = timed(past[-200:]), timed(window)
    if failing(window) > failing(past[-200:]) + 0.05 or len(new) < 20:
        return False
    halves = new[:len(new) // 2], new[len(new) // 2:]
    return (median(new) <= 1.15 * median(old) and quantiles(new, n=10)[-1] <= 1.35 * quantiles(old, n=10)[-1]
            and max(map(median, halves)) <= 1.25 * median(old))


@cache
def quiet_updates() -> list[tuple[list[Row], list[Row]]]:
    """(before, after) at every 60th row, so that no two windows share one."""
    pairs = [(rows[:cut], rows[cut:cut + AFTER]) for rows in histories().values() for cut in range(BEFORE, len(rows) - AFTER + 1, AFTER)]
    return [(past, window) for past, window in pairs if is_quiet(past, window)]


def slower(window: list[Row], by: float) -> list[Row]:
    return [(at, ok, ms * by) for at, ok, ms in window]


def test_the_histories_are_what_their_notice_says():
    counts = {site: len(rows) for site, rows in histories().items()}
    assert counts == {"d33bs__globus-website-public-webpage": 1000, "d33bs__curc-docs-public-webpage": 1000,
                      "toro-server__toro-minecraft-server": 1000, "4hse__service": 565, "limecommerce__67394-yeva": 654}
    assert all(one[0] <= other[0] for rows in histories().values() for one, other in pairwise(rows))
    assert "MIT License" in HISTORIES.with_name("NOTICE.md").read_text(encoding="utf-8")


def test_a_quiet_update_is_not_called_worse():
    alarms = [adapter.detect(past, iter(window)) is not None for past, window in quiet_updates()]
    assert len(alarms) >= 40
    assert sum(alarms) <= 3           # P(4 or more of 45 at 1 % each) is 0.001


@pytest.mark.parametrize(("by", "share", "samples"), [(2.0, 0.9, 7), (3.0, 0.95, 5)])
def test_an_update_that_makes_a_shop_much_slower_is_found_soon(by, share, samples):
    found = [adapter.detect(past, iter(slower(window, by))) for past, window in quiet_updates()]
    delays = [index + 1 for index in found if index is not None]
    assert len(delays) >= share * len(found)
    assert median(delays) <= samples


def test_an_outage_is_found_at_once():
    found = [adapter.detect(past, iter([(at, 0.0, 0.0) for at, _, _ in window])) for past, window in quiet_updates()]
    assert None not in found
    assert median(index + 1 for index in found if index is not None) <= 3


@pytest.mark.parametrize("past", [
    [], [(0.0, 1.0, 100.0)], [(float(at), 1.0, 100.0) for at in range(9)],
    [(math.nan, 1.0, 100.0)] * 200, [(float(at), math.nan, 100.0) for at in range(200)],
], ids=["empty", "one row", "nine rows", "no times", "no outcomes"])
def test_a_past_that_tells_nothing_judges_nothing(past):
    assert adapter.detect(past, iter([(1000.0 + at, 0.0, 0.0) for at in range(60)])) is None


@pytest.mark.parametrize("ms", [math.nan, math.inf, -1.0, 0.0], ids=str)
def test_a_past_without_one_usable_duration_still_judges_outcomes(ms):
    past = [(float(at), 1.0, ms) for at in range(200)]
    assert adapter.detect(past, iter([(1000.0 + at, 0.0, ms) for at in range(60)])) is not None
    assert adapter.detect(past, iter([(1000.0 + at, 1.0, ms) for at in range(60)])) is None


@pytest.mark.parametrize("ok", [0.0, 1.0], ids=["all failing", "constant"])
def test_a_past_that_never_changes_and_goes_on_like_that_is_quiet(ok):
    past = [(float(at), ok, 100.0 * ok) for at in range(200)]
    assert adapter.detect(past, iter([(1000.0 + at, ok, 100.0 * ok) for at in range(60)])) is None


def test_holes_on_either_side_hide_no_harm():
    def holed(rows: list[Row]) -> list[Row]:
        return [row if at % 7 else (row[0], math.nan, row[2]) if at % 14 else (row[0], row[1], math.nan) for at, row in enumerate(rows)]

    past = holed(histories()["d33bs__globus-website-public-webpage"][:600])
    window = histories()["d33bs__globus-website-public-webpage"][600:660]
    assert adapter.detect(past, iter(holed(window))) is None
    found = adapter.detect(past, iter(holed(slower(window, 3.0))))
    assert found is not None
    assert found < 10


def test_no_answer_looks_ahead():
    past, window = quiet_updates()[0]
    found = adapter.detect(past, iter(slower(window, 2.0)))
    assert found is not None
    assert adapter.detect(past, iter(slower(window, 2.0)[:found + 1])) == found
    assert adapter.detect(past, iter(slower(window, 2.0)[:found])) is None
