"""What a probe measured before its settings were changed is not its past; settings that change nothing measured cut nothing."""

import sqlite3
from pathlib import Path

import pytest
from stage import BASELINE, PAY, SPACING, Actor, Make
from test_before import runs

from monitor.config import load
from monitor.reload import fingerprint, note_measured
from monitor.store import records
from monitor.under_watch import CHANGED

BOTH = (Actor("home", critical=False), Actor("pay"))
CONFIG = """
[shop]
name = "till"
url = "https://till.example/"
[daemon]
state_dir = "state"
[[probe]]
name = "home"
kind = "http"
url = "https://till.example/"
"""


@pytest.fixture
def printed(tmp_path: Path):
    def printed(more: str = "", text: str = CONFIG) -> str:
        path = tmp_path / "config.toml"
        path.write_text(text + more)
        path.chmod(0o600)
        return fingerprint(load(path).probe[0])
    return printed


# ---- the fingerprint


@pytest.mark.parametrize("more", [
    'interval = "1m"', 'urgency = "ticket"', "failures = 2", "critical = true", 'means = "customers see nothing"', 'recheck = "10s"',
    "margin = { p50 = 0.5 }", 'method = "GET"', "expect = {}", '[defaults]\ninterval = "2m"',
])
def test_the_same_is_measured_more_often_or_weighed_otherwise(printed, more):
    assert printed(more) == printed()


@pytest.mark.parametrize("more", [
    'method = "HEAD"', "expect = { status = [404] }", "expect = { body_matches = ['a+'] }", "expect = { header_matches = { X = 'a' } }",
    "expect = { json = { 'a.b' = 1 } }", 'headers = { Accept-Language = "de" }', 'headers = { X = { env = "A" } }', 'timeout = "5s"',
    "follow_redirects = false", 'ip_family = "ipv6"', 'basic_auth = { username = "u", password = "p" }', "tls = { insecure_skip_verify = true }",
])
def test_something_else_is_measured(printed, more):
    assert printed(more) != printed()


def test_another_address_or_place_of_a_secret_is_something_else_and_another_secret_is_not(printed):
    assert printed(text=CONFIG.replace('example/"\n', 'example/shop"\n')) != printed()
    assert printed('headers = { X = { env = "A" } }') != printed('headers = { X = { env = "B" } }')
    first, other = (printed(f'basic_auth = {{ username = "u", password = "{secret}" }}') for secret in ("first", "other"))
    assert first == other


# ---- what is remembered


@pytest.fixture
def disk():
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    yield connection
    connection.close()


def test_a_probe_that_was_never_noted_has_always_measured_this(disk):
    records.note_measured(disk, {"home": "a"}, 100.0)
    records.note_measured(disk, {"home": "a", "pay: now": "b"}, 200.0)
    assert records.measured(disk) == {"home": [(0.0, "a")], "pay: now": [(0.0, "b")]}


def test_changes_are_remembered_with_their_moment_and_the_newest_only(disk):
    for at, one in ((100.0, "a"), (200.0, "b"), (300.0, "b"), (400.0, "a")):
        records.note_measured(disk, {"home": one}, at)
    assert records.measured(disk) == {"home": [(0.0, "a"), (200.0, "b"), (400.0, "a")]}
    for number in range(100):
        records.note_measured(disk, {"home": f"{number}"}, 500.0 + number)
    assert [since for since, _ in records.measured(disk)["home"]] == [580.0 + number for number in range(20)]


def test_what_a_clock_that_was_ahead_has_noted_is_noted_again(disk):
    records.note_measured(disk, {"home": "a"}, 100.0)
    records.note_measured(disk, {"home": "b"}, 9e9)
    records.note_measured(disk, {"home": "b"}, 200.0)
    assert records.measured(disk) == {"home": [(0.0, "a"), (200.0, "b")]}


# ---- the past


async def test_only_runs_of_what_is_measured_now_are_before(make: Make) -> None:
    stage = await make(actors=BOTH)
    for back, what in ((BASELINE + 1, "a"), (150, "b"), (100, "a"), (50, "b")):
        await stage.store.write(lambda c, back=back, what=what: records.note_measured(c, {"home": what}, stage.clock.at - back * SPACING))
    assert await runs(stage) == {"home": 100, "pay": BASELINE}
    await stage.store.write(lambda c: records.note_measured(c, {"home": "c"}, stage.clock.at))
    assert await runs(stage) == {"home": 0, "pay": BASELINE}
    await stage.store.write(lambda c: records.note_measured(c, {"home": "a"}, stage.clock.at + 1))
    assert await runs(stage) == {"home": 100, "pay": BASELINE}


async def test_a_run_that_begins_with_the_change_is_of_the_new_whatever_the_store_cuts_off(make: Make) -> None:
    stage = await make(past=10, actors=BOTH)
    await stage.store.write(lambda c: records.note_measured(c, {"pay": "a"}, 1.0))
    stage.clock.at += 0.0007
    await stage.store.write(lambda c: records.note_measured(c, {"pay": "b"}, stage.clock.at))
    await stage.past(5)
    assert (await runs(stage))["pay"] == 5


async def test_a_probe_that_was_changed_while_the_daemon_was_stopped_is_left_out_of_the_update(make: Make) -> None:
    stage = await make(actors=BOTH)
    await stage.store.write(lambda c: records.note_measured(c, {"home": "a", "pay": "b"}, stage.clock.at))
    await stage.start()
    await stage.live(3)
    await stage.store.write(lambda c: records.note_measured(c, {"home": "a", "pay": "c"}, stage.clock.at))
    await stage.restart()
    await stage.live(1)
    notes = {(s["probe"], CHANGED in s["note"]) for s in stage.watch.facts(await stage.newest())["signals"]}
    assert notes == {("home", False), (PAY[0], True)}


async def test_the_configuration_is_noted_probe_by_probe(make: Make, tmp_path: Path) -> None:
    stage = await make(past=1, actors=BOTH)
    path = tmp_path / "config.toml"
    path.write_text(CONFIG + CONFIG[CONFIG.index("[[probe]]"):].replace("home", "pay"))
    config = load(path)
    await note_measured(stage.store, config, stage.clock.at)
    assert await stage.store.read(records.measured) == {probe.name: [(0.0, fingerprint(probe))] for probe in config.probe}
