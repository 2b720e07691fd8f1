"""What bench/judge/rivals.py answers on a few real updates, held to what the open harness's own versions of them answered."""

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.judge import rivals

HISTORIES = Path(__file__).parents[1] / "data" / "upptime" / "probes.csv.gz"
HARMS = {"none": (1.0, 0), "x1.5": (1.5, 0), "every fifth fails": (1.0, 5), "down": (1.0, 1)}
# By harm: (alarms, sum of their indexes) over 33 updates.
PINNED: dict[str, tuple[tuple[int, int], ...]] = {
    "2 failures in a row": ((0, 0), (0, 0), (3, 21), (33, 33)),
    "3 in a row failed or > 2 × median": ((5, 126), (11, 230), (6, 82), (33, 66)),
    "3-sigma, single run": ((11, 230), (27, 228), (33, 0), (33, 0)),
    "3-sigma, 3 in a row": ((0, 0), (14, 204), (3, 43), (33, 66)),
    "burn rate 14.4, 5 and 60 runs": ((4, 66), (4, 66), (33, 1110), (33, 223)),
    "Kayenta, one look at 30": ((1, 29), (26, 754), (31, 899), (33, 957)),
    "Kayenta, one look at 60": ((5, 295), (28, 1652), (32, 1888), (33, 1947)),
    "Kayenta, every 5 from 10": ((3, 107), (27, 328), (31, 304), (33, 297)),
    "sequential bands, 1 %": ((1, 35), (17, 355), (26, 582), (33, 58)),
}


def updates(slower: float, failing: int) -> Iterator[tuple[Any, Any]]:
    rows = defaultdict(list)
    with gzip.open(HISTORIES, "rt", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            rows[line["site"]].append((float(line["timestamp"]), float(line["status"] != "down"), float(line["ms"])))
    for history in map(np.array, rows.values()):
        for cut in range(100, len(history) - 59, 120):
            window = history[cut:cut + 60].copy()
            window[:, 2] *= slower
            if failing:
                window[::failing, 1] = 0
            yield history[:cut], window


@pytest.mark.parametrize("name", list(PINNED))
def test_a_rival_answers_as_pinned(name):
    detect = next(rival.detect for rival in rivals.RIVALS if rival.name == name)
    for harm, expected in zip(HARMS.values(), PINNED[name], strict=True):
        answers = [detect(past, iter(window)) for past, window in updates(*harm)]
        found = [index for index in answers if index is not None]
        assert (len(found), sum(found)) == expected


def test_every_rival_is_pinned():
    assert {rival.name for rival in rivals.RIVALS if not rival.needs} == set(PINNED)
