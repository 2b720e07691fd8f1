"""What is taken up after a kill is no better than the open incidents have it, and the next runs put it right."""

import pytest

from monitor.health import Health, Rule, State, judge
from monitor.intake import _as_told
from probes.sample import Outcome, Sample

RULE = Rule(of=5, failures=3, confirm="1s")
WELL = Health(window=(False,) * 5, fine=5)


def after(health: Health, runs: int) -> list[State]:
    """What these ok runs say."""
    said: list[State] = []
    for number in range(runs):
        sample = Sample(probe="home", started=100.0 + number, ended=100.1 + number, seconds=0.1, outcome=Outcome.OK)
        health, flips = judge(health, RULE, sample)
        said += [flip.new for flip in flips]
    assert health.steady or not said
    return said


@pytest.mark.parametrize(("down", "broken", "said"), [
    (True, False, [State.UP]),
    (False, True, [State.MEASURED]),
    (True, True, [State.MEASURED, State.UP]),
    (False, False, []),
])
def test_a_recovery_that_its_incident_missed_is_said_again(down: bool, broken: bool, said: list[State]) -> None:
    assert sorted(after(_as_told(WELL, 99.0, down=down, broken=broken), 8)) == sorted(said)


def test_what_is_stored_as_bad_stays_as_it_is() -> None:
    bad = Health(down=True, window=(True,) * 5, failing_since=90.0, failed_at=98.0, downs=(95.0,))
    assert _as_told(bad, 99.0, down=True, broken=False) == bad
