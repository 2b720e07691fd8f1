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
        probes = [home.probe(f"ok-{n}", f"/ok?{n}") for n in range(20)]
        home.write("".join(probes))
        home.config.write_text(home.config.read_text().replace('confirm = "1s"', 'confirm = "500ms"').replace("failures = 3", "failures = 1"))
        home.start()
        until(lambda: home.metric("tillwatch_probe_runs_total", outcome="ok") > 200, 20, "runs")
        for _ in range(3):
            home.kill(signal.SIGSTOP)
            time.sleep(4)
            woken = time.monotonic()
            home.kill(signal.SIGCONT)
            until(lambda woken=woken: len({path for at, path in home.village.visits if at > woken}) == 20, 5, "a fresh cycle")
            assert max(min(at for at, path in home.village.visits if at > woken and path == f"/ok?{n}") for n in range(20)) - woken < 0.75
            time.sleep(1.0)
        assert home.village.messages == []
        assert {i["kind"] for i in home.get("/api/v1/incidents")["incidents"]} <= {"monitor_fault"}
        assert home.metric("tillwatch_probe_runs_total", outcome="failed") == 0
        assert home.metric("tillwatch_scheduler_missed_total") >= 3 * 20 * 14
        assert len(home.events("the machine, or this process, stood still")) == 3
        assert home.stop()[0] == 0
