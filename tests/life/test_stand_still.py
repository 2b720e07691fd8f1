"""The machine, or the daemon, stands still for a while: nobody blames the shop."""

import signal
import time
from pathlib import Path

import pytest
from homestead import house
from processes import until

pytestmark = pytest.mark.timeout(90)


def test_a_stopped_process_goes_on_at_once_without_an_outage(tmp_path: Path) -> None:
    """T44, with times scaled down: an outage is confirmed after half a second, and the daemon is stopped for four."""
    with house(tmp_path) as home:
        home.write("".join(home.probe(f"ok-{n}", f"/ok?{n}") for n in range(20)), interval="1s", confirm="500ms")
        home.config.write_text(home.config.read_text().replace("failures = 3", "failures = 1"))
        home.start()
        until(lambda: home.metric("tillwatch_probe_runs_total", outcome="ok") > 60, 20, "runs")
        spoilt = home.village.withheld()
        for _ in range(3):
            home.kill(signal.SIGSTOP)
            time.sleep(4)
            before, kept = len(home.village.visits), home.village.withheld()
            home.kill(signal.SIGCONT)
            woken = time.monotonic()
            until(lambda before=before: len({visit.path for visit in home.village.visits[before:]}) == 20, 20, "a fresh cycle")
            fresh = {visit.path: visit for visit in reversed(home.village.visits[before:])}
            assert max(visit.at - woken - (visit.withheld - kept) for visit in fresh.values()) < 0.75
            time.sleep(1.0)
        assert home.village.messages == []
        assert {i["kind"] for i in home.get("/api/v1/incidents")["incidents"]} <= {"monitor_fault"}
        assert home.metric("tillwatch_probe_runs_total", outcome="failed") == 0 or home.village.withheld() - spoilt > 1.0
        assert home.metric("tillwatch_scheduler_missed_total") >= 3 * 20 * 3
        stood = [event["seconds"] for event in home.events("the machine, or this process, stood still")]
        assert len([seconds for seconds in stood if seconds > 3]) == 3, stood
        assert home.stop()[0] == 0
