"""A real program logs, the real logrotate rotates, and the follower is killed: short plays of bench/logs/rotations.py."""

from pathlib import Path

import pytest
from tail_proof import Proof

pytestmark = pytest.mark.timeout(300)          # it waits for several processes
RATE = 5000


def test_renamed_at_5000_lines_a_second(tmp_path: Path) -> None:
    outcome = Proof(tmp_path, "create", rate=RATE).play(rotations=40, kills=0, pause=0.12)
    assert outcome.written > 15_000
    assert (outcome.read, outcome.lost, outcome.doubled, outcome.out_of_order, outcome.torn) == (outcome.written, 0, 0, 0, 0)
    assert (outcome.rotations, outcome.gaps) == (40, 0)


def test_renamed_and_killed(tmp_path: Path) -> None:
    outcome = Proof(tmp_path, "create", rate=RATE, seed=2, pattern="app.log").play(rotations=30, kills=50, pause=0.25)
    assert (outcome.read, outcome.lost, outcome.doubled, outcome.torn) == (outcome.written, 0, 0, 0)
    assert outcome.counter == outcome.written
    assert outcome.gaps == 0


@pytest.mark.parametrize("pattern", ["app.log", "app.log*"])
def test_copied_truncated_and_killed(tmp_path: Path, pattern: str) -> None:
    outcome = Proof(tmp_path, "copytruncate", rate=RATE, seed=3, pattern=pattern).play(rotations=15, kills=8, pause=0.25)
    assert outcome.doubled == 0
    assert outcome.lost_beyond == []
    assert outcome.lost <= outcome.destroyed
    assert outcome.counter == outcome.read == outcome.written - outcome.lost
