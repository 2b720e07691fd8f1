"""The one door: what a sample sets off, and what of it survives."""

import asyncio
import json
import sqlite3
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any

import pytest
from stage import HOME, MANUAL, PAY, RECHECK, SPACING, Actor, Make, Stage, receiver

from monitor.alerts import outbox
from monitor.alerts.delivery import Delivered
from monitor.health import Flip, Health, Rule, State
from monitor.incidents import Context, acknowledged, on_flip
from monitor.store import StoreError, records, samples
from probes.sample import Outcome

FAILING = {"outcome": Outcome.FAILED, "reason": "status", "evidence": "HTTP 500"}


async def test_an_outage_opens_one_incident_and_ends_with_it(stage: Stage) -> None:
    await stage.live(2, failing=["pay"])
    assert await stage.incidents() == []
    await stage.live(3, failing=["pay"])
    (incident,) = await stage.incidents()
    assert (incident.kind, incident.cause, incident.told) == ("outage", "errors@pay.example", True)
    assert incident.members[0].evidence == "HTTP 500"
    await stage.live(2)
    assert (await stage.incidents())[0].open
    await stage.live(1)
    assert not (await stage.incidents())[0].open
    flips = await stage.store.read(lambda c: records.flips(c, 0, 2e9))
    assert [(f["probe"], f["old"], f["new"]) for f in flips] == [("pay", "up", "down"), ("pay", "down", "up")]


async def test_two_probes_of_one_host_share_an_incident(make: Make) -> None:
    stage = await make(past=5)
    stage.intake._targets = {t: w.__class__(w.rule, "one.host", w.critical) for t, w in stage.intake._targets.items()}
    await stage.live(5, failing=["home", "pay"])
    (incident,) = await stage.incidents()
    assert sorted(m.probe for m in incident.members) == ["home", "pay"]


async def test_broken_runs_are_told_to_whoever_runs_us_and_never_turn_the_shop_red(make: Make) -> None:
    wants = receiver(on=["outage", "regression", "monitor_fault"], urgency="ticket")
    stage = await make(past=5, receivers=[receiver(name="oncall"), wants])
    await stage.live(5, outcome=Outcome.BROKEN, reason="local_network")
    (incident,) = await stage.incidents()
    assert (incident.kind, incident.urgency, incident.update) == ("monitor_fault", "ticket", "")
    assert stage.intake.down() == set()
    rows = await stage.store.read(lambda c: c.execute("SELECT receiver FROM outbox").fetchall())
    assert rows == [("hook",)]
    assert stage.intake.describe(PAY)["state"] == "broken"
    await stage.live(5)
    assert not (await stage.incidents())[0].open


async def test_a_daemon_that_measures_nothing_at_all_knows_since_when(make: Make) -> None:
    stage = await make(past=5)
    assert stage.intake.blind() is None
    begun = stage.clock.at
    await stage.live(5, outcome=Outcome.BROKEN, reason="settings")
    since = stage.intake.blind()
    assert since is not None
    assert begun <= since <= begun + SPACING
    stage.intake.accept(stage.run("pay"))
    assert stage.intake.blind() is None


async def test_a_run_by_hand_is_stored_and_changes_nothing(stage: Stage) -> None:
    for _ in range(10):
        assert stage.intake.accept(stage.run("pay", trigger=MANUAL, **FAILING)) is False
        stage.clock.at += SPACING
    await stage.look()
    assert (await stage.incidents(), stage.intake.down()) == ([], set())
    assert len([s for s in await stage.store.read(lambda c: samples.after(c, 0)) if s.sample.trigger is MANUAL]) == 10


async def test_rechecks_confirm_an_outage_sooner(stage: Stage) -> None:
    assert stage.intake.accept(stage.run("pay", **FAILING)) is True, "worth looking again soon"
    for _ in range(6):
        stage.clock.at += 10
        stage.intake.accept(stage.run("pay", trigger=RECHECK, **FAILING))
    assert stage.intake.down() == {PAY}
    assert stage.intake.accept(stage.run("home")) is False


async def test_a_failing_that_is_not_yet_an_outage_survives_a_restart(stage: Stage) -> None:
    await stage.live(2, failing=["pay"])
    await stage.restart()
    await stage.live(1, failing=["pay"])
    assert stage.intake.down() == {PAY}
    await stage.restart()
    await stage.live(3, failing=["pay"])
    assert (stage.intake.down(), len(await stage.incidents()), len(await stage.outbox())) == ({PAY}, 1, 1)


async def test_a_failing_that_ended_is_forgotten_by_a_restart_too(stage: Stage) -> None:
    await stage.live(2, failing=["pay"])
    await stage.live(5)
    await stage.restart()
    await stage.live(1, failing=["pay"])
    assert stage.intake.down() == set()


async def test_what_still_works_is_known(stage: Stage) -> None:
    assert stage.intake.working() == ["home", "pay"]
    await stage.live(1, failing=["pay"])
    assert stage.intake.working() == ["home"]
    await stage.live(3, failing=["pay"])
    facts = stage.intake.describe(PAY)
    assert (facts["state"], facts["reason"], facts["evidence"]) == ("down", "status", "HTTP 500")


async def test_a_target_that_never_ran_is_unknown(make: Make) -> None:
    stage = await make(past=0)
    assert stage.intake.describe(PAY) == {"state": "unknown"}
    assert stage.intake.working() == []


async def test_health_of_probes_that_are_gone_is_left_alone(make: Make, stage: Stage) -> None:
    await stage.live(4, failing=["pay"])
    await stage.close()
    stage.actors = (Actor("home"),)
    await stage.open()
    assert stage.intake.down() == set()


# ---- a reload


async def test_after_a_reload_what_is_gone_keeps_no_incident_open_and_the_rest_goes_on(make: Make) -> None:
    stage = await make(past=5, actors=(Actor("home"), Actor("pay"), Actor("psp")))
    await stage.live(4, failing=["home", "pay"])
    await stage.live(1, failing=["home", "pay", "psp"])
    watched = {a.target: a.watched() for a in (Actor("home"), Actor("psp"), Actor("new"))}
    stage.intake.change(watched)
    assert [m.probe for i in stage.casebook.open for m in i.members] == ["home"]
    assert stage.intake.down() == {HOME}
    assert stage.intake.describe(("psp", "", ""))["state"] == "failing"
    assert stage.intake.describe(("new", "", "")) == {"state": "unknown"}
    assert stage.intake.accept(stage.run("pay", **FAILING)) is False, "a run that was under way when its probe went"
    ended = next(i for i in await stage.incidents() if not i.open)
    steps = await stage.store.read(lambda c: records.incident_steps(c, ended.id))
    assert (steps[-1]["what"], steps[-1]["detail"]) == ("resolved", "no longer configured")
    health = await stage.store.read(records.load_health)
    assert (health[PAY], health[HOME].down) == (Health(), True)


async def test_after_a_reload_the_next_sample_is_judged_by_the_new_rule(stage: Stage) -> None:
    await stage.live(1, failing=["pay"])
    watched = {a.target: a.watched() for a in stage.actors}
    stage.intake.change(watched | {PAY: replace(watched[PAY], rule=Rule(failures=2, of=2, confirm="0s"))})
    await stage.live(1, failing=["pay"])
    assert stage.intake.down() == {PAY}


async def test_after_a_reload_other_receivers_are_told(stage: Stage) -> None:
    stage.casebook.change([receiver(name="other")])
    await stage.live(4, failing=["pay"])
    await stage.casebook.settled()
    assert await stage.store.read(lambda c: c.execute("SELECT receiver FROM outbox").fetchall()) == [("other",)]


async def test_health_that_an_older_version_stored_is_read(stage: Stage) -> None:
    old = {name: value for name, value in asdict(Health(down=True, window=(True, False))).items() if name not in {"downs", "failed_at"}}
    await stage.store.write(lambda c: c.execute("INSERT OR REPLACE INTO health VALUES ('pay', '', '', ?)", (json.dumps(old),)))
    assert (await stage.store.read(records.load_health))[PAY] == Health(down=True, window=(True, False))


# ---- our own network


async def test_fifty_probes_that_lose_our_own_network_are_one_incident_and_one_message(make: Make) -> None:
    actors = tuple(Actor(f"p{number:02}") for number in range(50))
    stage = await make(past=5, actors=actors, receivers=[receiver(on=["outage", "monitor_fault"])])
    noted: list[str] = []

    def note(sample: Any) -> bool:
        noted.append(sample.probe)
        return len(noted) > 3                            # it takes a moment until that is known
    stage.intake.note = note
    for _ in range(6):
        for actor in actors:
            stage.intake.accept(stage.run(actor.name, outcome=Outcome.FAILED, reason="connect_timeout"))
        stage.clock.at += SPACING
    (incident,) = await stage.incidents()
    assert (incident.kind, incident.cause, len(incident.members)) == ("monitor_fault", "broken:uplink", 50)
    assert await stage.outbox() == [("firing", "monitor_fault")]
    assert stage.intake.down() == set()
    stage.intake.note = lambda _sample: False
    await stage.live(4)
    assert [i.open for i in await stage.incidents()] == [False]
    assert await stage.outbox() == [("firing", "monitor_fault"), ("resolved", "monitor_fault")]
    stored = await stage.store.read(lambda c: samples.after(c, 0, 10_000))
    assert {s.sample.reason for s in stored if s.sample.outcome is Outcome.BROKEN} == {"uplink"}


async def test_what_fails_while_we_have_our_network_is_the_shops_doing_and_good_runs_may_bear_witness(stage: Stage) -> None:
    noted: list[str] = []
    stage.intake.note = lambda sample: bool(noted.append(sample.probe))
    await stage.live(4, failing=["pay"])
    assert (stage.intake.down(), set(noted)) == ({PAY}, {"home", "pay"})


# ---- storms and flapping


async def in_order(stage: Stage) -> list[tuple[float, str, str]]:
    """(when, kind, incident) of all messages that were written down, delivered at once as they come."""
    await stage.casebook.settled()

    def work(connection: sqlite3.Connection) -> None:
        while taken := outbox.claim(connection, "hook", "boot", stage.clock.now(), 100):
            for parcel in taken:
                outbox.settle(connection, parcel.row.id, Delivered(), stage.clock.now())
    await stage.store.write(work)
    rows = await stage.store.read(lambda c: c.execute("SELECT done, kind, incident FROM outbox WHERE state = 'done' ORDER BY done, seq").fetchall())
    return [(done, kind, incident) for done, kind, incident in rows]


def busiest_minute(messages: list[tuple[float, str, str]]) -> int:
    return max(sum(begin <= at < begin + 60 for at, _, _ in messages) for begin, _, _ in messages)


async def test_a_probe_that_flaps_two_hundred_times_in_ten_minutes_is_two_incidents(make: Make) -> None:
    """The most nervous rule there is: every failed run is an outage. From the second one on it must be quiet for two minutes first."""
    stage = await make(past=5)
    stage.intake.change({t: replace(w, rule=Rule(failures=1, of=1, confirm="0s")) for t, w in stage.intake._targets.items()})
    most = 0
    for number in range(200):
        stage.intake.accept(stage.run("pay", **(FAILING if number % 2 == 0 else {})))
        most = max(most, len(stage.casebook.open))
        messages = await in_order(stage)
        stage.clock.at += 3
    assert (most, len(await stage.incidents())) == (1, 2)
    assert [kind for _, kind, _ in messages] == ["firing", "resolved", "firing"]
    assert stage.casebook.open, "it is still coming and going"
    for _ in range(5):
        stage.intake.accept(stage.run("pay"))
        messages = await in_order(stage)
        stage.clock.at += 30
    assert [kind for _, kind, _ in messages] == ["firing", "resolved", "firing", "resolved"]
    assert stage.casebook.open == []


async def test_thirty_hosts_that_flap_together_are_never_more_than_twenty_messages_a_minute(make: Make) -> None:
    actors = tuple(Actor(f"p{number:02}") for number in range(30))
    stage = await make(past=2, actors=actors)
    stage.intake.change({t: replace(w, rule=Rule(failures=1, of=1, confirm="0s")) for t, w in stage.intake._targets.items()})
    for number in range(100):
        for actor in actors:
            stage.intake.accept(stage.run(actor.name, **(FAILING if number % 2 == 0 else {})))
        messages = await in_order(stage)
        stage.clock.at += 6
    assert busiest_minute(messages) <= 20
    bad = {m.probe for i in stage.casebook.open for m in i.members if m.recovered is None}
    assert bad == {a.name for a in actors}, "each is in an open incident, though not each in one of its own"
    assert len(stage.casebook.open) <= 10
    for _ in range(25):
        for actor in actors:
            stage.intake.accept(stage.run(actor.name))
        messages = await in_order(stage)
        stage.clock.at += 30
    assert stage.casebook.open == []
    assert busiest_minute(messages) <= 20
    told = {incident for _, _, incident in messages}
    last = {incident: kind for _, kind, incident in messages}
    assert last == dict.fromkeys(told, "resolved"), "the last word of each is its end"


async def test_a_storm_is_remembered_over_a_restart(make: Make) -> None:
    actors = tuple(Actor(f"p{number:02}") for number in range(12))
    stage = await make(past=2, actors=actors)
    for actor in actors[:8]:
        flip = Flip(*actor.target, State.UP, State.DOWN, "status", stage.clock.now(), stage.clock.now(), 3, 3)
        stage.casebook.apply(on_flip(stage.casebook.open, flip, Context(host=actor.name), lambda name=actor.name: name), flip=flip)
    await stage.restart()
    for actor in actors[8:]:
        stage.intake._flipped(replace(flip, probe=actor.name), actor.watched(), Health(down=True))
    assert max(i.cause for i in stage.casebook.open) == "storm"
    assert len(stage.casebook.open) == 9


# ---- the books


async def test_incidents_are_committed_in_their_order_with_outbox_rows_when_the_store_can_write_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monitor.casebook.RETRY_SECONDS", 0.01)
    await stage.store.write(lambda c: c.execute("PRAGMA busy_timeout = 10"))
    other = sqlite3.connect(stage.store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    failed = asyncio.Event()
    stage.store.on_failure = lambda _: failed.set()
    for _ in range(4):
        stage.intake.accept(stage.run("pay", **FAILING))
        stage.clock.at += SPACING
    assert [i.kind for i in stage.casebook.open] == ["outage"], "health and paging go on"
    for _ in range(5):
        stage.intake.accept(stage.run("pay"))
        stage.clock.at += SPACING
    await asyncio.wait_for(failed.wait(), 5)
    assert stage.casebook.open == []
    other.execute("COMMIT")
    other.close()
    (incident,) = await stage.incidents()
    assert not incident.open
    steps = await stage.store.read(lambda c: records.incident_steps(c, incident.id))
    assert [s["what"] for s in steps] == ["firing", "resolved"]
    assert next(kind for kind, _ in await stage.outbox()) == "firing"


async def test_an_incident_and_its_outbox_row_are_committed_together_or_not_at_all(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monitor.casebook.RETRY_SECONDS", 0.2)
    tries: list[None] = []
    twice = asyncio.Event()

    def enqueue(*arguments: Any) -> None:
        tries.append(None)
        if len(tries) == 2:
            stage.store._loop.call_soon_threadsafe(twice.set)
        if len(tries) < 3:
            raise StoreError("no space for that")
        outbox.enqueue(*arguments)
    monkeypatch.setattr("monitor.casebook.outbox", SimpleNamespace(enqueue=enqueue))
    for _ in range(4):
        stage.intake.accept(stage.run("pay", **FAILING))
        stage.clock.at += SPACING
    await asyncio.wait_for(twice.wait(), 5)
    assert await stage.store.read(records.incidents) == []
    assert (len(await stage.incidents()), len(await stage.outbox()), len(tries)) == (1, 1, 3)


async def test_what_was_open_is_taken_up_again(stage: Stage) -> None:
    await stage.live(4, failing=["pay"])
    opened = stage.casebook.open
    stage.casebook.apply([acknowledged(opened[0], "anna", stage.clock.now())], by="anna", detail="on it")
    await stage.restart()
    assert [(i.id, i.acked_by) for i in stage.casebook.open] == [(opened[0].id, "anna")]
    steps = await stage.store.read(lambda c: records.incident_steps(c, opened[0].id))
    assert [(s["what"], s["by"], s["detail"]) for s in steps] == [("firing", "", ""), ("acknowledged", "anna", "on it")]


async def test_nothing_to_change_is_no_commit(stage: Stage) -> None:
    """An empty commit would wake the watch, whose tick would ask for the next one, and so on for ever."""
    await stage.start()
    await stage.until("regression", slow=["pay"])
    await stage.live(130)
    assert (await stage.newest()).recovered is not None
    await stage.look()
    commits: list[int] = []
    stage.store.on_commit = lambda _seconds, written: commits.append(written)
    for _ in range(3):
        await stage.watch.tick()
        await stage.casebook.settled()
        stage.casebook.apply([])
        stage.casebook.release()
    await stage.casebook.settled()
    await asyncio.sleep(0)
    assert commits == []


async def test_only_what_was_told_counts_as_a_page(stage: Stage) -> None:
    stage.casebook.muted = lambda _incident, _now: True
    flip = Flip(*PAY, State.UP, State.DOWN, "status", stage.clock.now(), stage.clock.now(), 3, 3)
    stage.casebook.apply(on_flip([], flip, Context(), lambda: "i1"), flip=flip)
    stage.casebook.release()
    await stage.casebook.settled()
    assert (stage.paged, await stage.outbox()) == ([], [])
    stage.casebook.muted = lambda _incident, _now: False
    stage.casebook.release()
    stage.casebook.release()
    await stage.casebook.settled()
    assert (stage.paged, await stage.outbox()) == (["outage"], [("firing", "outage")])
