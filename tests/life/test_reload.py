"""Another configuration while the daemon runs: taken without a missed cycle, or refused with every problem and nothing changed."""

import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from homestead import SECRET, house, longest
from processes import Stopwatch, until

from monitor import reload
from monitor.config import ConfigError
from monitor.store import records

pytestmark = pytest.mark.timeout(90)
INTERVAL = 0.25        # s


def test_fifty_reloads_good_bad_and_half_written_miss_no_cycle(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        load = "".join(home.probe(f"load-{n}", f"/ok?{n}") for n in range(60))
        good = [home.probe("home", "/ok?home") + load + home.probe(f"extra-{n}", f"/ok?extra-{n}") for n in range(2)]
        home.write(good[0])
        home.start()
        until(lambda: home.metric("tillwatch_probe_runs_total", outcome="ok") > 100, 20, "the first runs")
        assert home.process is not None
        watch, slowest, begun, kept = Stopwatch(home.process.pid), 0.0, len(home.village.visits), home.village.withheld()

        def spoiled() -> tuple[float, float]:
            return home.metric("tillwatch_scheduler_missed_total"), home.metric("tillwatch_probe_runs_total", outcome="failed")
        before = spoiled()
        for turn in range(50):
            match turn % 3:
                case 0:
                    home.write(good[(turn // 3 + 1) % 2])
                case 1:
                    home.write(good[0] + '[[probe]]\nname = "home"\nkind = "htp"\n')
                case 2:
                    home.config.write_text(home.config.read_text()[:-40] + "[[pro")
            watch.again()
            status, answer = home.post("/-/reload")
            slowest = max(slowest, watch())
            assert status == (200 if turn % 3 == 0 else 422), answer
            assert (home.metric("tillwatch_config_last_reload_successful"), len(home.get("/api/v1/probes")["probes"])) == (turn % 3 == 0, 62)
        for path in ("/ok?home", *(f"/ok?{n}" for n in range(60))):
            visits = [visit for visit in home.village.visits[begun:] if visit.path == path]
            assert longest(visits) < 2 * INTERVAL, "an unchanged probe goes on in its rhythm"
        assert slowest < 1.0
        assert spoiled() == before or home.village.withheld() - kept > INTERVAL, "none missed, and none timed out"
        assert home.stop()[0] == 0


def test_what_changed_is_said_and_a_probe_that_is_gone_leaves_nothing_open(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.write(home.probe("home") + home.probe("broken", "/bad"))
        home.start()
        until(lambda: [m for m in home.village.messages if m["type"] == "incident.firing"], 20, "the page")
        home.write(home.probe("home", "/ok?other") + home.probe("new"))
        status, answer = home.post("/-/reload")
        assert (status, answer) == (200, {"added": ['probe "new"'], "removed": ['probe "broken"'], "changed": ['probe "home"']})
        until(lambda: home.get("/api/v1/incidents?open=true")["incidents"] == [], 20, "the end of the incident")
        until(lambda: [m["type"] for m in home.village.messages].count("incident.resolved"), 20, "the word of its end")
        until(lambda: home.metric("tillwatch_probe_runs_total", probe="new", outcome="ok") > 2, 20, "the new probe's runs")
        assert 'probe="broken"' not in home.get("/metrics")
        until(lambda: "/ok?other" in [visit.path for visit in home.village.visits], 20, "the other address")
        assert home.events("configuration taken")[0]["removed"] == ['probe "broken"']
        assert home.stop()[0] == 0
    with closing(sqlite3.connect(tmp_path / "state" / "tillwatch.sqlite3")) as store:
        assert {probe: len(noted) for probe, noted in records.measured(store).items()} == {"home": 2, "broken": 1, "new": 1}, "a past apart"


def test_what_cannot_change_while_running_refuses_it_all_with_key_old_and_new(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.write(home.probe("home"))
        home.start()
        old = home.config.read_text()
        home.config.write_text(old.replace('name = "kettle"', 'name = "pot"').replace("[web]", '[daemon]\nstate_dir = "elsewhere"\n[web]')
                               + home.probe("more"))
        status, answer = home.post("/-/reload")
        assert (status, answer["code"]) == (422, "refused")
        assert [(p["line"], p["path"]) for p in answer["problems"]] == [(3, "shop.name"), (6, "daemon.state_dir")]
        assert answer["problems"][0]["message"] == 'is "kettle" and cannot become "pot" while running: restart to change it'
        assert str(tmp_path / "elsewhere") in answer["problems"][1]["message"]
        assert len(home.get("/api/v1/probes")["probes"]) == 1
        home.config.write_text(old)
        assert home.post("/-/reload") == (200, {"added": [], "removed": [], "changed": []}), "and the way back is free"


def test_a_signal_reloads_too_and_says_in_the_log_why_not(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.write(home.probe("home"))
        home.start()
        home.write(home.probe("home") + home.probe("two"))
        home.kill(signal.SIGHUP)
        until(lambda: len(home.get("/api/v1/probes")["probes"]) == 2, 20, "the reload")
        home.write(home.probe("home", more='expect = { status = "x" }\nintervall = "1s"'))
        home.kill(signal.SIGHUP)
        problems = until(lambda: home.events("configuration not taken"), 20, "the refusal")[0]["problems"]
        assert len(problems) == 2
        assert 'did you mean "interval"' in problems[1]
        assert home.metric("tillwatch_config_last_reload_successful") == 0
        assert home.post("/-/reload", token="wrong")[0] == 401


def test_rotated_secrets_hold_from_the_reload_on(tmp_path: Path) -> None:
    """T99: the token and the receiver's secret lie in a folder of credentials, as systemd mounts it."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "ci").write_text("first-token-0123456789")
    (credentials / "hook").write_text(SECRET)
    with house(tmp_path) as home:
        home.environment["CREDENTIALS_DIRECTORY"] = str(credentials)
        token = '[[token]]\nname = "ci"\nvalue = { credential = "ci" }\nscopes = ["admin"]\n'
        home.write(home.probe("home") + token, receiver='secret = { credential = "hook" }')
        home.start()
        (credentials / "ci").write_text("second-token-0123456789")
        assert home.post("/-/reload", token="second-token-0123456789")[0] == 401, "not before the reload"
        assert home.post("/-/reload", token="first-token-0123456789")[0] == 200
        assert home.post("/-/reload", token="first-token-0123456789")[0] == 401, "the old one is forgotten"
        assert home.post("/-/reload", token="second-token-0123456789")[0] == 200
        (credentials / "hook").unlink()
        status, answer = home.post("/-/reload", token="second-token-0123456789")
        assert (status, "hook" in answer["detail"]) == (422, True)
        assert home.post("/-/reload", token="second-token-0123456789")[0] == 422, "and the token goes on"


def test_a_reload_does_not_wait_for_a_database_that_somebody_locks(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.write(home.probe("home"))
        home.start()
        other = sqlite3.connect(tmp_path / "state" / "tillwatch.sqlite3", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        home.write(home.probe("home") + home.probe("two"), receiver=f'secret = "{SECRET}"\nrunbook = "https://runbook.example/"')
        assert home.process is not None
        with Stopwatch(home.process.pid) as watch:
            status, answer = home.post("/-/reload")
            assert (status, answer["changed"], watch() < 2) == (200, ['receiver "phone"'], True)
        until(lambda: home.metric("tillwatch_probe_runs_total", probe="two", outcome="ok") > 2, 20, "the new probe's runs")
        other.execute("ROLLBACK")
        other.close()
        home.village.down = True
        until(lambda: any("runbook.example" in str(m) for m in home.village.messages), 30, "a page with the new runbook")
        assert home.stop()[0] == 0


def test_an_update_under_way_leaves_out_a_probe_that_measures_something_else_now(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        # This is not about durations, nor about outages of a shop that the machine holds up: all of them get much room.
        update = '[update]\nwarm_up = "1s"\nobserve = "40s"\ninterval_factor = 1\nmargin = { success = 0.5, p50 = 10.0, p95 = 10.0 }\n'
        home.write(home.probe("home", more="critical = true") + home.probe("other") + update, confirm="20s")
        home.start()
        until(lambda: home.metric("tillwatch_probe_runs_total", probe="home", outcome="ok") > 60, 30, "a past")
        assert home.post("/api/v1/updates", body={"version": "2.0"})[0] == 201
        home.write(home.probe("home", "/ok?new", more="critical = true") + home.probe("other", more='urgency = "ticket"') + update, confirm="20s")
        assert home.post("/-/reload")[1]["changed"] == ['probe "home"', 'probe "other"']

        def notes() -> dict[str, str]:
            return {s["probe"]: s["note"] for s in home.get("/api/v1/updates/newest")["signals"] if "changed while" in (s["note"] or "")}
        until(notes, 20, "a ruling that says so")
        assert set(notes()) == {"home"}
        home.process.send_signal(signal.SIGKILL)
        home.process.wait()
        home.start()
        until(notes, 20, "the same after a restart")
        assert home.get("/api/v1/updates/newest")["acts"][-1]["act"] == "left out"
        assert [m["type"] for m in home.village.messages] == ["notice"], "its start, and no alarm"


def test_a_file_that_cannot_be_understood_or_read_in_time_is_refused_and_the_next_reload_works(tmp_path: Path) -> None:
    with house(tmp_path) as home:
        home.write(home.probe("home"))
        home.start()
        good = home.config.read_text()
        home.config.write_text(good + "\nx = " + "[" * 20_000)
        assert home.post("/-/reload")[0] == 422
        os.mkfifo(tmp_path / "pipe", 0o600)
        home.write(home.probe("home") + '[[token]]\nname = "ci"\nvalue = { file = "pipe" }\nscopes = ["admin"]\n')
        home.kill(signal.SIGHUP)
        until(lambda: any("within 10 s" in str(e["problems"]) for e in home.events("configuration not taken")), 30, "the refusal of what hangs")
        home.write(home.probe("home") + home.probe("two"))
        assert home.post("/-/reload")[1]["added"] == ['probe "two"']
        assert home.stop()[0] == 0


async def test_what_nobody_expected_while_reading_is_a_problem_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: RecursionError: too deep"):
        await reload.within(tmp_path, lambda: exec('raise RecursionError("too deep")'))
    assert await reload.within(tmp_path, lambda: 5) == 5
