"""The measured tables of docs/judge.md: what is measured anew replaces its row, what is not stays, and the page has a place for each."""

import re
from pathlib import Path

from bench.judge import tables
from bench.judge.tables import BLOCKS, OURS, SHORT, Found, Row

PAGE = Path(__file__).parents[2] / "docs" / "judge.md"
EVERY = ["two failures", "change points", OURS]


def row(name: str, set_: str) -> Row:
    return Row(name, set_, windows=200, false=20, quiet=100, false_quiet=1, harms=dict.fromkeys(SHORT, Found(10, 7, 4.0)))


def results(*names: str) -> dict[str, object]:
    ends = {"pass": 9, "inconclusive": 1, "after": 5}
    sets = {set_: {"sites": 2, "runs": 400, "rows": [row(name, set_) for name in (*names, "rate 0.01")], "ends": ends}
            for set_ in ("probes", "minute")}
    return sets | {"faults": {name: {"slowing": Found(15, 12, 8.0), "placebo": Found(13, 0, None)} for name in names}}


def block(page: str, name: str) -> str:
    found = re.search(rf"<!-- measured {name}: .*?-->\n(.*)<!-- end of measured {name} -->", page, re.DOTALL)
    assert found
    return found[1]


EMPTY = "\n".join(f"<!-- measured {name}: how -->\n\nold\n\n<!-- end of measured {name} -->\n" for name in BLOCKS)


def test_the_page_has_every_block_and_a_row_for_ours():
    text = PAGE.read_text(encoding="utf-8")
    assert tables.lacking(text) == []
    assert f"| **{OURS}** |" in block(text, "others")


def test_a_first_run_fills_the_tables_and_says_what_was_not_run():
    page = tables.into_page(EMPTY, results("two failures", OURS), ["two failures", OURS], EVERY, "rate ")
    others = block(page, "others")
    assert f"| **{OURS}** | 1.0 | 1.0 | 70/4 | 70/4 |" in others
    assert "12 of 15 / 8 | 0 of 13 |" in others
    assert "| change points | not run |" in others
    assert [line.split(" | ")[0] for line in others.strip().splitlines()[2:]] == ["| two failures", "| change points", f"| **{OURS}**"]
    assert "| 0.01 | 1.0 | 70/4 | 70/4 |" in block(page, "trade-off")
    assert "| down | 70 % | 4 | 2 min |" in block(page, "figures")
    assert "90 % (minute-sampled demo shops: 90 %)" in block(page, "figures")
    assert "\nold\n" not in page


def test_what_is_not_run_again_stays():
    page = tables.into_page(EMPTY, results("two failures", OURS), ["two failures", OURS], EVERY, "rate ")
    later = tables.into_page(page, results("change points"), ["change points"], EVERY, "rate ")
    assert "not run" not in later
    assert [name for name in BLOCKS if block(later, name) == block(page, name)] == ["figures", "trade-off"]
    assert tables.into_page(later, results("change points"), ["change points"], EVERY, "rate ") == later


def test_a_page_without_a_block_is_told_before_anything_is_measured():
    assert tables.lacking("# a page\n") == list(BLOCKS)
