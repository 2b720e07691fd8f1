"""The one door: what a sample sets off, and what of it survives."""

import asyncio
import sqlite3

import pytest
from stage import MANUAL, PAY, RECHECK, SPACING, Actor, Make, Stage, receiver

from monitor.health import Flip, State
from monitor.incidents import Context, acknowledged, on_flip
from monitor.store import records, samples
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
    monkeypatch.setattr("monitor.casebook.RETRY_SECONDS", 0.01)
    await stage.store.write(lambda c: c.execute("CREATE TRIGGER full BEFORE INSERT ON outbox BEGIN SELECT RAISE(ABORT, 'full'); END"))
    failed = asyncio.Event()
    stage.store.on_failure = lambda _: failed.set()
    for _ in range(4):
        stage.intake.accept(stage.run("pay", **FAILING))
        stage.clock.at += SPACING
    await asyncio.wait_for(failed.wait(), 5)
    assert await stage.store.read(records.incidents) == []
    await stage.store.write(lambda c: c.execute("DROP TRIGGER full"))
    assert (len(await stage.incidents()), len(await stage.outbox())) == (1, 1)


async def test_what_was_open_is_taken_up_again(stage: Stage) -> None:
    await stage.live(4, failing=["pay"])
    opened = stage.casebook.open
    stage.casebook.apply([acknowledged(opened[0], "anna", stage.clock.now())], by="anna", detail="on it")
    await stage.restart()
    assert [(i.id, i.acked_by) for i in stage.casebook.open] == [(opened[0].id, "anna")]
    steps = await stage.store.read(lambda c: records.incident_steps(c, opened[0].id))
    assert [(s["what"], s["by"], s["detail"]) for s in steps] == [("firing", "", ""), ("changed", "anna", "on it")]


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
    stage.casebook.muted = lambda _now: True
    flip = Flip(*PAY, State.UP, State.DOWN, "status", stage.clock.now(), stage.clock.now(), 3, 3)
    stage.casebook.apply(on_flip([], flip, Context(), lambda: "i1"), flip=flip)
    stage.casebook.release()
    await stage.casebook.settled()
    assert (stage.paged, await stage.outbox()) == ([], [])
    stage.casebook.muted = lambda _now: False
    stage.casebook.release()
    stage.casebook.release()
    await stage.casebook.settled()
    assert (stage.paged, await stage.outbox()) == (["outage"], [("firing", "outage")])
