"""The life of an update: what is judged, what it opens, and how it ends."""

import sqlite3
from dataclasses import replace
from typing import Any

import pytest
from stage import BURST, HOME, MANUAL, PAY, RECHECK, SPACING, Actor, Make, Stage

from monitor import under_watch
from monitor.store import Store, records, samples
from monitor.updates import Refusal, Status
from probes.sample import Outcome

BOTH = ("home", "pay")


async def regressed(stage: Stage, **how: Any) -> None:
    """An update that made paying slow, and has been found."""
    await stage.start()
    await stage.until("regression", **how or {"slow": ["pay"]})


# ---- good updates


async def test_an_update_that_harms_nothing_passes_after_it_is_finished(stage: Stage) -> None:
    started = await stage.start(changes=[{"name": "kettle", "version": "2"}], link="https://shop.example/2")
    await stage.live(30)
    assert (await stage.newest()).verdict == "watching", "a pass falls only after finish"
    await stage.act("finish")
    await stage.until("pass")
    update = await stage.newest()
    assert (update.id, update.status, update.closed, update.changes[0].name) == (started.id, Status.CLOSED, update.verdict_at, "kettle")
    assert update.ruling["sentence"].startswith("No harm seen in ")
    assert await stage.acts() == ["start", "finish", "pass"]
    assert await stage.incidents() == []
    assert stage.pace.log[-1] == "relax"


async def test_too_little_to_judge_by_ends_inconclusive_when_the_observation_is_over(make: Make) -> None:
    stage = await make(past=5, observe="10m")
    await stage.start()
    await stage.act("finish")
    assert await stage.until("inconclusive") == 24, "10 minutes after a warm-up of 2"
    update = await stage.newest()
    assert (update.status, update.ruling["reason"]) == (Status.CLOSED, "baseline_too_short")
    assert update.ruling["missing"]


async def test_facts_say_when_there_will_be_a_verdict(stage: Stage) -> None:
    update = await stage.start()
    now = stage.clock.now()
    assert stage.watch.facts(update)["decided_by"] == now + 7200 + 120 + 3600
    await stage.live(3)
    facts = stage.watch.facts(await stage.act("finish"))
    assert facts["decided_by"] == now + 3 * SPACING + 120 + 3600
    await stage.live(3)
    facts = stage.watch.facts(await stage.newest())
    assert {s["probe"] for s in facts["signals"]} == set(BOTH)
    assert facts["missing"]
    await stage.until("pass")
    assert stage.watch.facts(await stage.newest())["decided_by"] is None


async def test_a_shop_that_is_watched_faster_is_asked_to_hurry_until_the_end(make: Make) -> None:
    stage = await make(actors=(Actor("home", fast=10.0), Actor("pay")))
    assert stage.pace.log == []
    await stage.start()
    assert stage.pace.log == ["hurry home inf"]
    await stage.act("cancel")
    assert stage.pace.log == ["hurry home inf", "relax"]


# ---- bad updates


async def test_failing_payments_are_a_regression_with_one_incident_and_one_page(stage: Stage) -> None:
    await stage.start()
    rounds = await stage.until("regression", failing=["pay"])
    assert rounds <= 12
    await stage.live(20, failing=["pay"])
    (incident,) = await stage.incidents()
    update = await stage.newest()
    assert (incident.kind, incident.update, incident.version, incident.urgency) == ("regression", update.id, "2.0", "page")
    assert incident.ruling["verdict"] == "regression"
    assert [m.probe for m in incident.members] == ["pay"]
    assert [kind for kind, _ in await stage.outbox()] == ["firing"]
    assert stage.paged in (["outage"], ["regression"])
    assert update.ruling["reason"] == "failures"
    assert "pay" in update.ruling["sentence"]
    assert await stage.acts() == ["start", "regression"]


async def test_slow_payments_that_never_fail_are_a_regression_too(stage: Stage) -> None:
    await regressed(stage)
    (incident,) = await stage.incidents()
    assert (incident.kind, incident.members, incident.told) == ("regression", (), True)
    assert await stage.outbox() == [("firing", "regression")]
    guilty = {(s["probe"], s["signal"]) for s in incident.ruling["signals"] if s["guilty"]}
    assert guilty == {("pay", "duration")}


async def test_a_regression_is_found_in_the_first_phase_and_in_a_later_one(stage: Stage) -> None:
    await stage.start(phase="canary")
    await stage.live(20)
    await stage.act("phase", "all")
    await stage.until("regression", slow=["pay"])
    update = await stage.newest()
    assert (update.phase, len(update.segments), update.status) == ("all", 2, Status.OPEN)
    assert (await stage.incidents())[0].began == update.segments[-1]


async def test_warm_up_after_a_start_is_not_held_against_the_update(stage: Stage) -> None:
    await stage.start()
    await stage.live(4, slow=BOTH)
    await stage.live(20)
    assert (await stage.newest()).verdict == "watching"
    await stage.act("finish")
    await stage.until("pass")


async def test_a_ticket_probe_makes_a_ticket_of_its_regression(make: Make) -> None:
    stage = await make(actors=(Actor("home", urgency="ticket"), Actor("pay")))
    await regressed(stage, slow=["home"])
    assert [i.urgency for i in await stage.incidents()] == ["ticket"]
    assert await stage.outbox() == [], "the receiver hears of pages only"


async def test_a_shop_that_was_as_bad_before_is_not_blamed_on_the_update(make: Make) -> None:
    stage = await make(past=0)
    for number in range(400):
        await stage.past(1, outcome=Outcome.FAILED if number % 3 == 0 else Outcome.OK)
    await stage.start()
    for number in range(30):
        await stage.live(1, failing=BOTH if number % 3 == 0 else ())
    assert (await stage.newest()).verdict == "watching"


async def test_before_is_frozen_at_the_start(stage: Stage) -> None:
    update = await stage.start()
    frozen = await stage.store.read(lambda c: records.baselines(c, update.id))
    assert frozen[PAY]["runs"] == frozen[HOME]["runs"] == 200
    await stage.until("regression", failing=["pay"])
    await stage.restart()
    await stage.live(30, failing=["pay"])
    assert await stage.store.read(lambda c: records.baselines(c, update.id)) == frozen
    with pytest.raises(Exception, match="UNIQUE"):
        await stage.store.write(lambda c: records.save_baselines(c, update.id, [(PAY, {})]))


async def test_times_of_trouble_are_no_before(stage: Stage) -> None:
    """An outage, and an update that regressed, are not what the shop is usually like."""
    await stage.live(30, failing=["pay"])
    await stage.live(10)
    update = await stage.start()
    baselines = await stage.store.read(lambda c: records.baselines(c, update.id))
    (failures,) = [s["fit"]["failures"] for s in baselines[PAY]["signals"] if s["signal"]["test"] == "bernoulli"]
    assert failures == 0
    assert baselines[PAY]["runs"] < baselines[HOME]["runs"] + 30


# ---- the way back


async def test_a_rollback_is_over_when_the_shop_is_back_to_normal(stage: Stage) -> None:
    await regressed(stage, failing=["pay"])
    await stage.act("rollback")
    await stage.live(3, failing=["pay"])
    assert (await stage.newest()).status is Status.RECOVERING
    assert (await stage.incidents())[0].open
    await stage.until("closed")
    update, (incident,) = await stage.newest(), await stage.incidents()
    assert (update.verdict, update.recovered, update.closed) == ("regression", stage.clock.now(), stage.clock.now())
    assert not incident.open
    assert "0 of the last 10 runs failed" in incident.resolution
    assert [kind for kind, _ in await stage.outbox()] in (["firing"], ["firing", "resolved"])
    assert await stage.acts() == ["start", "regression", "rollback", "recovered"]


async def test_a_rollback_before_any_verdict_is_watched_until_all_is_normal(stage: Stage) -> None:
    await stage.start()
    await stage.live(2)
    await stage.act("rollback")
    await stage.live(5)
    assert (await stage.newest()).status is Status.RECOVERING
    await stage.until("closed")
    update = await stage.newest()
    assert (update.verdict, update.recovered is not None) == ("inconclusive", True), "nobody found anything, and nobody can any more"
    assert await stage.incidents() == []


async def test_a_rollback_that_did_not_help_is_closed_and_its_incident_waits_for_better_days(make: Make) -> None:
    stage = await make(observe="10m")
    await regressed(stage)
    await stage.act("rollback")
    assert await stage.until("closed", slow=["pay"]) == 24
    assert ((await stage.newest()).recovered, stage.pace.log[-1]) == (None, "relax")
    await stage.live(5, slow=["pay"])
    assert [i.open for i in await stage.incidents()] == [True]
    await stage.restart()
    await stage.live(25)
    assert [i.open for i in await stage.incidents()] == [False]


async def test_a_regression_that_ends_by_itself_ends_its_incident_and_the_update_goes_on(stage: Stage) -> None:
    await regressed(stage)
    await stage.live(8)
    assert (await stage.incidents())[0].open, "it must have lasted"
    await stage.live(120)
    (incident,), update = await stage.incidents(), await stage.newest()
    assert not incident.open
    assert (update.verdict, update.status) == ("regression", Status.OPEN)
    assert update.recovered is not None


async def test_a_regression_of_a_probe_that_runs_every_second_can_end_by_itself(make: Make) -> None:
    """Its newest 200 runs span less time than normality must have lasted."""
    stage = await make(actors=(Actor("pay", interval=1.0, fast=1.0),), past=0)
    await stage.past(300, spacing=1.0)
    await stage.start()
    await stage.until("regression", slow=["pay"], spacing=1.0, step=1.0, rounds=300)
    await stage.live(330, spacing=1.0, step=1.0)
    assert [i.open for i in await stage.incidents()] == [False]


async def test_a_rollback_without_a_before_to_compare_with_does_not_last_for_ever(make: Make) -> None:
    stage = await make(past=5, observe="10m")
    await stage.start()
    await stage.act("rollback")
    await stage.live(30)
    assert not (await stage.newest()).live
    assert stage.pace.log[-1] == "relax"


@pytest.mark.parametrize("ending", ["superseded", "cancelled", "observed to the end"])
async def test_an_incident_outlives_its_update_and_ends_when_the_shop_is_normal(make: Make, ending: str) -> None:
    stage = await make(observe="10m")
    first = await stage.start("2.0")
    await stage.until("regression", slow=["pay"])
    if ending == "cancelled":
        await stage.act("cancel")
    else:
        await stage.act("finish")
        await stage.live(30 if ending == "observed to the end" else 2, slow=["pay"])
    if ending == "superseded":
        await stage.start("2.1")
    assert not (await stage.update(first.id)).live
    await stage.live(12, slow=["pay"])
    assert [i.open for i in await stage.incidents() if i.update == first.id] == [True]
    await stage.restart()
    await stage.live(40)
    assert [i.open for i in await stage.incidents() if i.update == first.id] == [False]
    assert (await stage.update(first.id)).verdict == "regression"
    await stage.live(5)
    assert [i.update for i in await stage.incidents()].count(first.id) == 1


# ---- ends that people say


async def test_an_update_that_nobody_finishes_is_taken_as_finished(make: Make) -> None:
    stage = await make(expire_after="10m")
    await stage.start()
    await stage.live(19)
    assert (await stage.newest()).status is Status.OPEN
    await stage.live(1)
    update = await stage.newest()
    assert (update.status, update.finished) == (Status.OBSERVING, update.started + 600)
    await stage.until("pass")
    assert await stage.acts() == ["start", "expired", "pass"]


async def test_a_cancelled_update_is_judged_no_more(stage: Stage) -> None:
    await stage.start()
    await stage.live(3)
    assert (await stage.act("cancel")).status is Status.CANCELLED
    await stage.live(15, slow=["pay"])
    update = await stage.newest()
    assert (update.verdict, update.status) == ("watching", Status.CANCELLED)
    assert await stage.incidents() == []
    assert "cancelled" in await stage.refused("finish")


async def test_a_second_start_is_refused_while_one_is_open(stage: Stage) -> None:
    update = await stage.start("2.0")
    refusal = await stage.watch.start(_request("2.1"), "ci")
    assert isinstance(refusal, Refusal)
    assert update.id in refusal.reason
    assert (await stage.newest()).version == "2.0"


async def test_a_second_start_supersedes_what_is_only_observed(stage: Stage) -> None:
    first = await stage.start("2.0")
    await stage.act("finish")
    await stage.live(3)
    second = await stage.start("2.1")
    earlier = await stage.update(first.id)
    assert (earlier.status, earlier.verdict, earlier.closed) == (Status.CLOSED, "inconclusive", second.started)
    assert await stage.acts(first.id) == ["start", "finish", "superseded"]
    assert second.id != first.id
    await stage.until("regression", slow=["pay"])
    assert (await stage.update(first.id)).verdict == "inconclusive"


async def test_updates_of_one_day_are_numbered_on(stage: Stage) -> None:
    ids = []
    for _ in range(3):
        ids.append((await stage.start()).id)
        await stage.act("cancel")
        stage.clock.at += 60
    assert [id_.rpartition("-")[2] for id_ in ids] == ["1", "2", "3"]


async def test_an_act_on_an_unknown_update_is_none_and_on_a_closed_one_refused(stage: Stage) -> None:
    assert await stage.watch.act("nobody", "finish", "ci") is None
    await stage.start()
    await stage.act("cancel")
    await stage.restart()
    assert await stage.refused("rollback")


# ---- announced downtime


async def test_announced_downtime_pages_nobody_and_is_not_judged(stage: Stage) -> None:
    await stage.start(expect_downtime="10m")
    await stage.live(15, failing=BOTH)
    assert (await stage.outbox(), stage.paged) == ([], [])
    opened = await stage.incidents()
    assert {i.told for i in opened} == {False}, "it is recorded all the same"
    await stage.live(5)
    assert [i.open for i in await stage.incidents()] == [False] * len(opened)
    await stage.live(20)
    assert (await stage.outbox(), (await stage.newest()).verdict) == ([], "watching")
    await stage.act("finish")
    await stage.until("pass")


async def test_what_is_still_wrong_after_announced_downtime_pages(stage: Stage) -> None:
    await stage.start(expect_downtime="10m")
    await stage.live(19, failing=["pay"])
    assert await stage.outbox() == []
    await stage.live(1, failing=["pay"])
    assert await stage.outbox() == [("firing", "outage")]
    assert stage.paged == ["outage"]
    await stage.until("regression", failing=["pay"])
    assert (len(await stage.incidents()), len(await stage.outbox())) == (1, 1)


async def test_finishing_early_ends_the_announced_downtime(stage: Stage) -> None:
    await stage.start(expect_downtime="1h")
    await stage.live(5, failing=["pay"])
    assert await stage.outbox() == []
    await stage.act("finish")
    await stage.live(1, failing=["pay"])
    assert await stage.outbox() == [("firing", "outage")]
    assert await stage.until("regression", failing=["pay"]) <= 12, "and what fails from then on is judged"


async def test_the_end_of_what_was_told_is_told_also_when_it_got_worse_while_muted(make: Make) -> None:
    stage = await make(actors=(Actor("home", critical=False, urgency="ticket"), Actor("pay")))
    same = {"evidence": "no answer"}
    stage.intake._targets = {t: w.__class__(w.rule, "one.host", w.critical, w.control) for t, w in stage.intake._targets.items()}
    stage.casebook._receivers = (stage.receivers[0].model_copy(update={"urgency": "ticket"}),)
    await stage.live(4, failing=["home"], **same)
    assert await stage.outbox() == [("firing", "outage")]
    await stage.store.write(lambda c: c.execute("UPDATE outbox SET state = 'done', attempts = 1, done = 1"))
    await stage.start(expect_downtime="1h")
    await stage.live(4, failing=BOTH, **same)
    (incident,) = await stage.incidents()
    assert (incident.escalation, incident.told, len(await stage.outbox())) == (1, False, 1)
    await stage.live(6)
    assert not (await stage.incidents())[0].open
    assert await stage.outbox() == [("firing", "outage"), ("resolved", "outage")]


async def test_probes_show_as_muted_while_they_are(stage: Stage) -> None:
    await stage.start(expect_downtime="2m")
    await stage.live(1)
    assert {s.muted for s in stage.exporter._series.values()} == {True}
    await stage.live(5)
    assert {s.muted for s in stage.exporter._series.values()} == {False}


async def test_a_shadow_run_records_everything_and_pages_nobody(make: Make) -> None:
    stage = await make(shadow_until="2036-01-01")
    await regressed(stage, failing=["pay"])
    (incident,) = await stage.incidents()
    assert (incident.kind, incident.told, incident.open) == ("regression", False, True)
    assert (await stage.outbox(), stage.paged) == ([], [])
    await stage.act("rollback")
    await stage.until("closed")
    assert await stage.outbox() == []


async def test_a_shadow_run_that_is_over_pages(make: Make) -> None:
    stage = await make(shadow_until="2016-01-01")
    await regressed(stage)
    assert await stage.outbox() == [("firing", "regression")]


# ---- what is never judged


@pytest.mark.parametrize(("what", "values"), [
    ("recheck", {"trigger": RECHECK, "outcome": Outcome.FAILED, "reason": "status"}),
    ("manual", {"trigger": MANUAL, "outcome": Outcome.FAILED, "reason": "status"}),
    ("broken", {"outcome": Outcome.BROKEN, "reason": "local_network"}),
    ("burst at a spacing without a past", {"trigger": BURST, "spacing": 7.0, "outcome": Outcome.FAILED, "reason": "status"}),
])
async def test_what_is_not_comparable_is_never_judged(stage: Stage, what: str, values: dict[str, Any]) -> None:
    await stage.start()
    for _ in range(40):
        stage.intake.accept(stage.run("pay", **values))
        await stage.live(1)
    update = await stage.newest()
    facts = stage.watch.facts(update)
    after = {(s["probe"], s["signal"]): s["n_after"] for s in facts["signals"]}
    assert after["pay", "success"] == after["home", "success"] == 40, what
    assert update.verdict == "watching"
    assert not [i for i in await stage.incidents() if i.kind == "regression"]


async def test_runs_of_an_overloaded_host_say_nothing_about_time(stage: Stage) -> None:
    await stage.start()
    await stage.live(40, slow=BOTH, overloaded=True)
    assert (await stage.newest()).verdict == "watching"


async def test_when_the_control_is_worse_too_it_is_not_this_update(make: Make) -> None:
    stage = await make(actors=(Actor("pay"), Actor("psp", critical=False, control=True)), observe="20m")
    await stage.start()
    await stage.live(15, slow=["pay", "psp"])
    update = await stage.newest()
    assert update.verdict == "watching"
    await stage.act("finish")
    await stage.until("inconclusive", slow=["pay", "psp"])
    update = await stage.newest()
    assert update.ruling["reason"] == "control_worse"
    assert "psp" in " ".join(update.ruling["missing"])
    assert await stage.incidents() == []


async def test_bursts_before_the_update_are_what_bursts_after_it_are_judged_by(make: Make) -> None:
    stage = await make(actors=(Actor("pay", fast=15.0),))
    for _ in range(150):
        stage.intake.accept(stage.run("pay", trigger=BURST, spacing=15.0))
        stage.clock.at += 15.0
    await stage.look()
    update = await stage.start()
    baseline = (await stage.store.read(lambda c: records.baselines(c, update.id)))[PAY]
    assert (baseline["spacing"], baseline["runs"]) == (15.0, 150)
    await stage.until("regression", slow=["pay"], trigger=BURST, spacing=15.0, step=15.0)


async def test_without_enough_bursts_the_regular_runs_are_judged_by_the_regular_past(make: Make) -> None:
    stage = await make(actors=(Actor("pay", fast=15.0),))
    update = await stage.start()
    assert (await stage.store.read(lambda c: records.baselines(c, update.id)))[PAY]["spacing"] == SPACING
    await stage.live(40, slow=["pay"], trigger=BURST, spacing=15.0, step=15.0)
    assert (await stage.newest()).verdict == "watching"
    await stage.until("regression", slow=["pay"], spacing=15.0)


async def test_a_long_quiet_time_before_the_start_does_not_hold_the_judge_up(stage: Stage) -> None:
    def quiet_weeks(connection: sqlite3.Connection) -> None:
        connection.execute("""
            WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
            INSERT INTO sample (series, started, seconds, code)
            SELECT 1, (SELECT max(started) FROM sample) + i, 200000, code FROM n, sample WHERE id = 1""")
        connection.execute("UPDATE series SET names = '[]'")
    await stage.store.write(quiet_weeks)
    stage.clock.at += 60
    await stage.start()
    await stage.live(1)
    facts = stage.watch.facts(await stage.newest())
    assert {s["n_after"] for s in facts["signals"] if s["signal"] == "success"} == {1}


# ---- a later outage


async def test_an_outage_after_an_update_names_it_for_as_long_as_is_set(make: Make) -> None:
    stage = await make(attribute_for="2h")
    first = await stage.start()
    await stage.act("finish")
    await stage.until("pass")
    finished = (await stage.newest()).finished or 0
    await stage.live(4, failing=["pay"])
    (incident,) = await stage.incidents()
    assert (incident.kind, incident.update, incident.version) == ("outage", first.id, "2.0")
    await stage.live(6)
    stage.clock.at = finished + 7200 + 1
    await stage.live(4, failing=["pay"])
    assert [i.update for i in await stage.incidents()] == [first.id, ""]


async def test_the_suspect_is_known_after_a_restart(make: Make) -> None:
    stage = await make(attribute_for="2h")
    first = await stage.start()
    await stage.act("finish")
    await stage.until("pass")
    await stage.restart()
    await stage.live(4, failing=["pay"])
    assert [i.update for i in await stage.incidents()] == [first.id]


async def test_an_update_that_was_cancelled_or_is_over_and_recovered_is_no_suspect(stage: Stage) -> None:
    await regressed(stage)
    await stage.act("rollback")
    await stage.until("closed")
    await stage.start("2.1")
    await stage.act("cancel")
    await stage.live(4, failing=["pay"])
    assert [i.update for i in await stage.incidents() if i.kind == "outage"] == [""]


async def test_an_outage_of_a_control_probe_is_blamed_on_no_update(make: Make) -> None:
    stage = await make(actors=(Actor("pay"), Actor("psp", critical=False, control=True)))
    await stage.start()
    await stage.live(5, failing=["psp"])
    (incident,) = await stage.incidents()
    assert (incident.kind, incident.update, [m.probe for m in incident.members]) == ("outage", "", ["psp"])


# ---- restarts


@pytest.mark.parametrize("phase", ["just started", "evidence gathered", "regressed", "second phase", "observing", "recovering"])
async def test_a_restart_in_any_phase_changes_nothing(stage: Stage, phase: str) -> None:
    await stage.start(phase="canary")
    if phase == "evidence gathered":
        await stage.live(2, slow=["pay"])
    if phase in {"regressed", "recovering"}:
        await stage.until("regression", slow=["pay"])
    if phase == "second phase":
        await stage.act("phase", "all")
        await stage.live(3)
    if phase == "observing":
        await stage.live(3)
        await stage.act("finish")
        await stage.live(3)
    if phase == "recovering":
        await stage.act("rollback")
        await stage.live(3)
    before, told = await stage.newest(), await stage.outbox()
    await stage.restart()
    await stage.look()
    assert replace(await stage.newest(), ruling={}) == replace(before, ruling={}), "only the running word on it is newer"
    assert (await stage.outbox(), len(await stage.incidents())) == (told, int(before.regressed))
    if phase == "recovering":
        assert await stage.until("closed") <= 12, "the runs from before the restart count"
        assert [i.open for i in await stage.incidents()] == [False]
        return
    if phase == "observing":
        await stage.until("pass")
        return
    await stage.until("regression", slow=["pay"])
    await stage.restart()
    await stage.live(5, slow=["pay"])
    assert len(await stage.incidents()) == len(await stage.outbox()) == 1
    assert (await stage.acts()).count("regression") == 1


async def test_evidence_from_before_a_restart_counts(stage: Stage) -> None:
    await stage.start()
    rounds = await stage.until("regression", slow=["pay"])
    await stage.act("cancel")
    await stage.live(30)
    await stage.start("2.1")
    stage.random.seed(7)
    await stage.live(rounds - 1, slow=["pay"])
    await stage.restart()
    assert await stage.until("regression", slow=["pay"]) <= 6


async def test_restarts_at_every_round_reach_the_same_verdict(stage: Stage) -> None:
    await stage.start()
    for _ in range(25):
        await stage.live(1, failing=["pay"])
        await stage.restart()
    assert (await stage.newest()).verdict == "regression"
    assert len(await stage.incidents()) == len(await stage.outbox()) == 1


async def test_a_crash_between_verdict_and_commit_loses_nothing(stage: Stage) -> None:
    """What was decided in memory and not committed is decided again."""
    await stage.start()
    await stage.store.write(lambda c: c.execute(
        "CREATE TRIGGER full BEFORE INSERT ON incident BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"))
    for _ in range(15):
        stage.intake.accept(stage.run("pay", seconds=0.6))
        stage.intake.accept(stage.run("home"))
        stage.clock.at += SPACING
        await stage.store.write(lambda _: None)
        await stage.watch.tick()
    assert [i.kind for i in stage.casebook.open] == ["regression"]
    assert (await stage.store.read(records.incidents), (await stage.store.read(records.newest_update)).verdict) == ([], "watching")  # type: ignore[union-attr]
    stage.committing.cancel()
    await stage.rooms.aclose()
    async with Store(stage.directory) as store:
        await store.write(lambda c: c.execute("DROP TRIGGER full"))
    await stage.open()
    await stage.look()
    assert (await stage.newest()).verdict == "regression"
    assert await stage.outbox() == [("firing", "regression")]


def _request(version: str) -> Any:
    from monitor.web.api import StartRequest
    return StartRequest(version=version)


# ---- found in review


async def test_a_shop_that_still_fails_now_and_then_gets_no_all_clear(make: Make) -> None:
    """Ten good runs in a row come by chance when one payment in five fails."""
    stage = await make()
    await regressed(stage, failing=["pay"])
    await stage.act("rollback")
    for number in range(120):
        await stage.live(1, failing=["pay"] if number % 5 == 4 else [])
        assert [i.open for i in await stage.incidents()] == [True]


async def test_the_warm_up_begins_when_announced_downtime_is_over(stage: Stage) -> None:
    await stage.start(expect_downtime="5m")
    await stage.live(9, failing=["pay"])
    await stage.live(5, slow=["pay"])            # cold caches, right after the shop is back
    await stage.live(30)
    assert (await stage.newest()).verdict == "watching"
    assert [i.kind for i in await stage.incidents() if i.kind == "regression"] == []


async def test_what_a_person_says_is_not_overwritten_by_what_the_judge_decided_before(stage: Stage) -> None:
    await stage.start()
    await stage.live(3)
    older = await stage.newest()
    stage.casebook.apply([], also=lambda c: records.save_update(c, older))        # still queued when the person speaks
    await stage.act("finish")
    await stage.casebook.settled()
    assert (await stage.newest()).status is Status.OBSERVING


async def test_a_probe_that_was_taken_out_while_down_and_put_back_is_paged_anew(make: Make) -> None:
    stage = await make()
    await stage.live(4, failing=["pay"])
    assert await stage.outbox() == [("firing", "outage")]
    actors = stage.actors
    stage.actors = tuple(a for a in actors if a.name != "pay")
    await stage.restart()
    assert [i.open for i in await stage.incidents()] == [False]
    stage.actors = actors
    await stage.restart()
    await stage.live(4, failing=["pay"])
    assert sorted(i.open for i in await stage.incidents()) == [False, True]


# ---- another configuration meanwhile


def changed(stage: Stage, *names: str, actors: tuple[Actor, ...] | None = None, **settings: Any) -> None:
    """A reload in which these probes came to measure something else."""
    actors = actors or tuple(stage.actors)
    stage.watch.change(stage.settings.model_copy(update=settings), {a.target: a.judged() for a in actors}, names)


def unjudged(stage: Stage, update: Any) -> dict[str, str]:
    return {s["probe"]: s["note"] for s in stage.watch.facts(update)["signals"] if "was changed" in (s["note"] or "")}


async def test_a_probe_that_measures_something_else_is_left_out_and_cannot_be_guilty_any_more(stage: Stage) -> None:
    update = await stage.start()
    await stage.live(5)
    changed(stage, "pay", "unknown")
    await stage.live(60, slow=["pay"], failing=["pay"])
    assert (await stage.newest()).verdict == "watching", "another page that is slower than the one before is no regression"
    assert set(unjudged(stage, update)) == {"pay"}
    assert [a for a in await stage.acts() if a == "left out"] == ["left out"]
    await stage.restart()
    await stage.live(5)
    assert set(unjudged(stage, update)) == {"pay"}
    await stage.act("finish")
    await stage.until("inconclusive", rounds=200)
    assert (await stage.newest()).ruling["reason"] != "pass", "pay is critical: without it there is no pass"


async def test_a_probe_that_is_gone_is_left_out_also_when_it_comes_back(stage: Stage) -> None:
    update = await stage.start()
    await stage.live(5)
    changed(stage, actors=(Actor("home", critical=False),))
    changed(stage)
    await stage.live(60, slow=["pay"])
    assert (await stage.newest()).verdict == "watching", "it may be another page by now"
    assert set(unjudged(stage, update)) == {"pay"}
    assert "taken out of the configuration" in stage.watch.facts(update)["sentence"]


async def test_the_rest_is_judged_by_all_its_runs_after_a_change(stage: Stage) -> None:
    await stage.start()
    rounds = await stage.until("regression", slow=["pay"])
    await stage.act("cancel")
    fresh = await stage.start("3.0")
    assert fresh.verdict == "watching"
    for number in range(1, rounds * 2):
        await stage.live(1, slow=["pay"])
        if number == 2:
            changed(stage, "home")
        if (await stage.newest()).verdict == "regression":
            break
    assert (await stage.newest()).verdict == "regression"
    assert number <= rounds + 1, "the runs before the change still count"


async def test_settings_that_change_hold_for_the_update_that_is_under_way(stage: Stage) -> None:
    await stage.start()
    await stage.live(30)
    await stage.act("finish")
    changed(stage, observe=120.0)
    await stage.live(9)
    assert (await stage.newest()).status is Status.CLOSED, "the shorter observation"


async def test_a_probe_that_is_new_is_hurried_too_and_one_that_is_gone_keeps_nothing_waiting(stage: Stage) -> None:
    await regressed(stage)
    changed(stage, actors=(Actor("home", critical=False), Actor("new", fast=7.5)))
    assert stage.pace.log[-1] == "hurry new inf"
    await stage.act("rollback")
    await stage.live(20)
    assert (await stage.newest()).status is Status.CLOSED, "what is gone need not come back to normal"


async def test_every_step_of_an_update_is_told_in_its_transaction(stage: Stage) -> None:
    told: list[tuple[str, str, str]] = []

    def tell(connection: sqlite3.Connection, update: Any, act: str, by: str) -> None:
        assert connection.in_transaction
        assert records.update(connection, update.id) == update
        told.append((act, update.phase, by))
    stage.watch.tell = tell
    await stage.start(phase="canary")
    await stage.act("phase", "all")
    stage.clock.at += 4 * 3600
    await stage.live(1)
    await stage.act("rollback")
    assert told == [("start", "canary", "ci"), ("phase", "all", "ci"), ("expired", "all", "tillwatch"), ("rollback", "all", "ci")]
    await stage.casebook.settled()


async def test_the_watch_says_when_a_step_of_it_does_not_end(stage: Stage) -> None:
    await stage.start()
    assert stage.watch.stuck == 0
    seen = []
    stage.watch.silenced = lambda _now: seen.append(stage.watch.stuck) or ()
    stage.clock.at += 60
    await stage.look()
    assert seen[0] == 0
    advance = stage.watch._advance

    async def slowly(*about: Any) -> None:
        stage.clock.at += 42
        seen.append(stage.watch.stuck)
        await advance(*about)
    stage.watch._advance = slowly
    await stage.live(1)
    assert seen[-1] == 42
    assert stage.watch.stuck == 0


async def test_a_long_replay_in_pages_is_no_standing_still(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await stage.start()
    await stage.live(10)
    changed(stage, "home")
    monkeypatch.setattr(under_watch, "PAGE", 5)
    seen, after = [], samples.after

    def slowly(*about: Any) -> Any:
        stage.clock.at += 3
        seen.append(stage.watch.stuck)
        return after(*about)
    monkeypatch.setattr(samples, "after", slowly)
    await stage.look()
    assert len(seen) > 4
    assert max(seen) <= 6
