"""A shop logs, its log is rotated, and the daemon is killed in between: every line is counted once (reliability T20 to T22)."""

from pathlib import Path

import pytest
from log_lives import LEVELS, live

HOW = {"renamed": "create", "renamed-and-compressed": "create\n    compress\n    delaycompress"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
def test_no_line_is_lost_or_counted_twice(how: str, tmp_path: Path) -> None:
    ended = live(tmp_path, how=how, kills=3, rotations=8, rate=5000, told=lambda _: None)
    assert ended.counted["lines"] == sum(ended.written.values())
    assert {level: ended.counted[name] for level, name in LEVELS.items()} == {level: ended.written[level] for level in LEVELS}


@pytest.mark.timeout(300)
def test_copytruncate_counts_no_line_twice_and_loses_what_logrotate_loses(tmp_path: Path) -> None:
    ended = live(tmp_path, how="copytruncate", kills=2, rotations=6, rate=2000, told=lambda _: None)
    written = sum(ended.written.values())
    assert ended.counted["lines"] <= written
    assert ended.counted["lines"] >= written - ended.destroyed
