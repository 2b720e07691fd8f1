"""Somebody sets the clock: nothing is late or early for it, nobody is paged, and what goes out has true times."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from homestead import House, house, longest, shortest
from processes import until

from monitor import clock
from monitor.app import _not_ahead
from monitor.clock import Clock, begin, clock_time, iso, true_time
from monitor.health import Health

pytestmark = pytest.mark.timeout(90)
HOUR, YEAR = 3600.0, 365.25 * 86400

# A wall clock that can be set: by the number of seconds in a file.
SETTABLE = """
import pathlib, sys, time
real, by = time.time, pathlib.Path(sys.argv.pop(1))
time.time = lambda: real() + float(by.read_text())
from monitor.cli import main
main()
"""


def put(home: House, seconds: float) -> None:
    new = home.folder / "by.new"
    new.write_text(repr(seconds))
    new.rename(home.folder / "by")


def start(home: House) -> None:
    home.start(SETTABLE, str(home.folder / "by"))


def test_a_clock_that_is_set_moves_no_run_and_pages_nobody(tmp_path: Path) -> None:
    """T43"""
    with house(tmp_path) as home:
        put(home, 0)
        home.write("".join(home.probe(f"ok-{n}", f"/ok?{n}") for n in range(5)), interval="1s")
        start(home)
        until(lambda: home.metric("tillwatch_probe_runs_total", outcome="ok") >= 5, 20, "runs")
        since, kept = time.monotonic(), home.village.withheld()
        for seconds in (HOUR, -HOUR, 10 * YEAR, 0):
            put(home, seconds)
            until(lambda seconds=seconds: abs(home.metric("tillwatch_clock_shift_seconds") - seconds) < 1, 20, "the step being seen")
            time.sleep(1.25)                         # a run of each after it
        for n in range(5):
            visits = [visit for visit in home.village.visits if visit.at > since and visit.path == f"/ok?{n}"]
            assert longest(visits) < 2.0
            assert shortest(visits) > 0.4
        assert home.metric("tillwatch_scheduler_missed_total") == 0 or home.village.withheld() - kept > 1.0
        assert [m for m in home.village.messages if "monitor_fault" not in str(m)] == []
        assert [i for i in home.get("/api/v1/incidents")["incidents"] if i["kind"] != "monitor_fault"] == []
        assert len(home.events("the wall clock was stepped")) == 4
        started = [s["started"] for s in home.get("/api/v1/samples?limit=1000")["samples"]]
        assert started == sorted(started, reverse=True)
        assert home.stop()[0] == 0


def test_a_start_in_1970_goes_on_from_what_is_remembered_and_tells_true_times_as_soon_as_there_are_any(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        put(home, -HOUR)                             # so that the true time is far from the remembered one
        home.write(home.probe("home"))
        start(home)
        until(lambda: home.metric("tillwatch_probe_runs_total", outcome="ok") > 10, 20, "runs")
        assert home.stop()[0] == 0
        put(home, 1000 - time.time())
        start(home)
        until(lambda: home.metric("tillwatch_probe_runs_total", outcome="ok") > 5, 20, "runs")
        put(home, 0)
        until(lambda: abs(home.metric("tillwatch_clock_shift_seconds") - HOUR) < 60, 20, "the true time being seen")
        home.village.down = True
        kept = home.village.withheld()
        firing = until(lambda: [m for m in home.village.messages if m["type"] == "incident.firing"], 20, "the page")[0]
        assert abs(datetime.fromisoformat(firing["timestamp"]).timestamp() - time.time()) < 5 + home.village.withheld() - kept
        started = [s["started"] for s in home.get("/api/v1/samples?limit=1000")["samples"]]
        assert started == sorted(started, reverse=True)
        assert min(started) > time.time() - HOUR - 100


def test_time_begins_where_it_was_left_unless_that_cannot_be_true() -> None:
    set_ = datetime(2026, 11, 22, tzinfo=UTC).timestamp()
    assert begin(set_, 0.0) == set_
    assert begin(set_, set_ - HOUR) == set_, "the usual case"
    assert begin(set_, set_ + HOUR) == set_ + HOUR, "put back by an hour meanwhile: the history stays in order"
    assert begin(set_, set_ + 10 * YEAR) == set_, "what was remembered was written under a wrong clock"
    assert begin(1000.0, set_) == set_, "a machine without a battery"
    assert begin(1000.0, 0.0) == datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def test_a_failing_that_was_stored_under_a_clock_that_was_ahead_began_now_at_the_latest() -> None:
    """Else it would have to last until that time before anybody is told."""
    now = 1_790_000_000.0
    ahead, fine = Health(failing_since=now + YEAR, unmeasured_since=None), Health(failing_since=now - 5, unmeasured_since=now - 3)
    assert _not_ahead(ahead, now) == Health(failing_since=now)
    assert _not_ahead(fine, now) is fine
    again = Health(down=True, failing_since=now - 60, failed_at=now + HOUR, downs=(now - 60, now + HOUR))
    assert _not_ahead(again, now) == replace(again, failed_at=now, downs=(now - 60,)), "else its end would wait for that time too"
    assert _not_ahead(replace(again, failed_at=now), now).downs == (now - 60,)


def test_a_step_is_seen_once_and_changes_only_what_moments_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    real, by = time.time, [0.0]
    monkeypatch.setattr(clock.time, "time", lambda: real() + by[0])
    here = Clock()
    assert (here.follow(), here.shift) == (0.0, 0.0)
    now, called = here.now(), iso(here.now())
    by[0] = -HOUR
    assert here.follow() == pytest.approx(-HOUR, abs=0.1)
    assert here.follow() == 0.0
    assert here.now() - now < 1
    assert datetime.fromisoformat(called).timestamp() - datetime.fromisoformat(iso(now)).timestamp() == pytest.approx(HOUR, abs=0.1)
    assert true_time(now) == pytest.approx(now - HOUR, abs=0.1)
    assert clock_time(now) == datetime.fromtimestamp(now - HOUR).astimezone().strftime("%H:%M")
    by[0] = 1.0
    assert here.follow() == pytest.approx(HOUR, abs=1.5), "a difference of a second is no shift"
    assert here.shift == 0.0
    by[0] = -real() + 5000
    assert (here.follow(), here.shift) == (0.0, 0.0), "a clock that is not set says nothing"
    by[0] = 0.0
    here.follow()
