"""Which messages are written down, in which order they leave, and what becomes of them."""

import json
import sqlite3
from dataclasses import replace
from typing import Any

import pytest
from desk import NIGHT, hook, make_incident, make_member, settings

from monitor.alerts import outbox
from monitor.alerts.delivery import Delivered, DeliveryError, ReceiverSettings
from monitor.incidents import Incident, Transition
from monitor.store import records

NOW = NIGHT + 60
OUTAGE = make_incident()
OVER = replace(OUTAGE, resolved=NIGHT + 720, resolution="recovered")
WORSE = replace(OUTAGE, escalation=1)
MANAGER = settings("alertmanager", name="am", peers=["http://127.0.0.1:9"])
FAILED = DeliveryError("down", code="connect")


class Box:
    """An outbox and the receivers that it is written for."""

    def __init__(self, connection: sqlite3.Connection, *receivers: ReceiverSettings) -> None:
        self.connection, self.receivers = connection, receivers

    def tell(self, what: Any, incident: Incident, now: float = NOW) -> None:
        records.save_incident(self.connection, incident, now, what)
        outbox.enqueue(self.connection, Transition(what, incident), self.receivers, now)

    def rows(self, name: str = "hook") -> list[tuple[str, int, str]]:
        return self.connection.execute("SELECT kind, escalation, state FROM outbox WHERE receiver = ? ORDER BY incident, seq", (name,)).fetchall()

    def claim(self, now: float = NOW, name: str = "hook", limit: int = 8, boot: str = "boot", busy: tuple[str, ...] = ()) -> list[outbox.Parcel]:
        return outbox.claim(self.connection, name, boot, now, limit, busy)

    def send(self, result: outbox.Result = Delivered(), now: float = NOW, name: str = "hook") -> str:  # noqa: B008 - frozen
        (parcel,) = self.claim(now, name)
        return outbox.settle(self.connection, parcel.row.id, result, now, 0.5)


@pytest.fixture
def box(connection: sqlite3.Connection) -> Box:
    return Box(connection, hook())


# ---- who hears of what


@pytest.mark.parametrize(
    ("values", "incident", "hears"),
    [
        ({}, OUTAGE, True),
        ({}, make_incident(urgency="ticket"), False),
        ({"urgency": "ticket"}, make_incident(urgency="ticket"), True),
        ({"on": ["regression"]}, OUTAGE, False),
        ({}, make_incident(kind="monitor_fault", urgency="ticket"), False),
        ({"on": ["monitor_fault"]}, make_incident(kind="monitor_fault", urgency="ticket"), True),
        ({}, make_incident(kind="drill", urgency="ticket"), True),
    ],
)
def test_a_receiver_hears_of_what_it_asked_for(connection: sqlite3.Connection, values: Any, incident: Incident, hears: bool) -> None:
    box = Box(connection, hook(**values))
    box.tell("firing", incident)
    assert bool(box.rows()) is hears


def test_each_escalation_is_told_once(box: Box) -> None:
    for what, incident in (("firing", OUTAGE), ("firing", OUTAGE), ("changed", OUTAGE)):
        box.tell(what, incident)
    box.send()
    for what, incident in (("escalated", WORSE), ("changed", replace(WORSE, acked_by="ann")), ("escalated", WORSE)):
        box.tell(what, incident)
    assert box.rows() == [("firing", 0, "done"), ("firing", 1, "queued"), ("acknowledged", 1, "queued")]


def test_an_outage_that_becomes_a_regression_is_told_to_those_who_wait_for_regressions(connection: sqlite3.Connection) -> None:
    box = Box(connection, hook(), hook("deploys", on=["regression"]))
    box.tell("firing", OUTAGE)
    assert box.rows("deploys") == []
    box.tell("changed", replace(OUTAGE, kind="regression", update="01update"))
    assert box.rows("deploys") == [("firing", 0, "queued")]
    assert box.rows() == [("firing", 0, "queued")]


def test_a_ticket_that_becomes_a_page_is_told_to_those_who_wait_for_pages(box: Box) -> None:
    ticket = make_incident(urgency="ticket")
    box.tell("firing", ticket)
    assert box.rows() == []
    box.tell("escalated", replace(ticket, urgency="page", escalation=1))
    assert box.rows() == [("firing", 1, "queued")]


def test_a_waiting_message_is_replaced_by_the_worse_one_and_keeps_its_age(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.tell("escalated", WORSE, NOW + 600)
    assert box.rows() == [("firing", 0, "superseded"), ("firing", 1, "queued")]
    assert outbox.waiting(box.connection, ["hook"], NOW + 600) == {"hook": (1, 600.0)}


def test_the_end_goes_to_whoever_heard_of_it_whatever_they_want_now(connection: sqlite3.Connection) -> None:
    box = Box(connection, hook(), hook("other", on=["regression"]))
    box.tell("firing", OUTAGE)
    box.send()
    box.receivers = (hook(on=["update"]), hook("other", on=["regression"]))
    box.tell("resolved", OVER)
    box.tell("resolved", OVER)
    assert box.rows() == [("firing", 0, "done"), ("resolved", 0, "queued")]
    assert box.rows("other") == []


def test_what_was_never_delivered_and_is_over_is_told_once_afterwards(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.send(FAILED)
    box.tell("resolved", OVER, NOW + 700)
    assert box.rows() == [("firing", 0, "superseded"), ("resolved", 0, "queued")]
    (parcel,) = box.claim(NOW + 700)
    assert not parcel.heard


def test_alertmanager_hears_nothing_of_what_it_can_never_have_heard_of(connection: sqlite3.Connection) -> None:
    box = Box(connection, MANAGER)
    box.tell("firing", OUTAGE)
    box.tell("resolved", OVER)
    assert box.rows("am") == [("firing", 0, "superseded")]


def test_alertmanager_hears_the_end_of_what_it_may_have_heard_of(connection: sqlite3.Connection) -> None:
    box = Box(connection, MANAGER)
    box.tell("firing", OUTAGE)
    box.send(DeliveryError("no answer", code="timeout"), name="am")
    box.tell("resolved", OVER)
    assert box.rows("am") == [("firing", 0, "superseded"), ("resolved", 0, "queued")]


# ---- order


def test_the_end_waits_for_the_beginning_that_is_under_way(box: Box) -> None:
    box.tell("firing", OUTAGE)
    (firing,) = box.claim()
    box.tell("resolved", OVER)
    assert box.claim(NOW + 9999) == []
    assert outbox.settle(box.connection, firing.row.id, Delivered(), NOW) == "done"
    assert [p.row.kind for p in box.claim()] == ["resolved"]


def test_a_beginning_that_fails_after_the_end_is_known_is_not_tried_again(box: Box) -> None:
    box.tell("firing", OUTAGE)
    (firing,) = box.claim()
    box.tell("resolved", OVER)
    assert outbox.settle(box.connection, firing.row.id, FAILED, NOW) == "superseded"
    assert [p.row.kind for p in box.claim()] == ["resolved"]


def test_incidents_do_not_wait_for_each_other(box: Box) -> None:
    for number in range(5):
        box.tell("firing", replace(OUTAGE, id=f"i{number}"))
    first = {p.row.incident for p in box.claim(limit=2)}
    assert len(first) == 2
    left = {f"i{number}" for number in range(5)} - first
    held_up = min(left)
    assert {p.row.incident for p in box.claim(busy=(held_up,))} == left - {held_up}


# ---- retries


@pytest.mark.parametrize(("attempts", "age", "longest"), [(1, 0, 2), (2, 0, 4), (5, 0, 32), (9, 0, 60), (50, 3599, 60), (50, 3600, 300)])
def test_back_off_grows_to_a_minute_and_after_an_hour_to_five(box: Box, attempts: int, age: float, longest: float) -> None:
    box.tell("firing", OUTAGE)
    (parcel,) = box.claim()
    row = replace(parcel.row, attempts=attempts)
    assert outbox.wait_before(row, FAILED, NOW + age, 1.0) == longest
    assert outbox.wait_before(row, FAILED, NOW + age, 0.0) == 0.0


@pytest.mark.parametrize(("asked", "jitter", "wait"), [(30.0, 0.0, 30.0), (30.0, 1.0, 36.0), (86400.0, 0.0, 600.0)])
def test_retry_after_wins_and_is_never_undercut(box: Box, asked: float, jitter: float, wait: float) -> None:
    box.tell("firing", OUTAGE)
    (parcel,) = box.claim()
    assert outbox.wait_before(parcel.row, DeliveryError("busy", retry_after=asked), NOW, jitter) == wait


def test_nothing_leaves_before_its_time(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.send(DeliveryError("busy", retry_after=30.0))
    due = outbox.next_due(box.connection, "hook")
    assert due == NOW + 33
    assert box.claim(NOW + 32) == []
    assert len(box.claim(NOW + 33)) == 1


@pytest.mark.parametrize("asked", [None, 0.0])
def test_what_lasts_is_never_given_up_and_tried_slowly_with_the_least(box: Box, asked: float | None) -> None:
    box.tell("firing", OUTAGE)
    refused, now, times = DeliveryError("no such page", permanent=True, code="404", retry_after=asked), NOW, []
    for _ in range(20):
        (parcel,) = box.claim(now)
        times.append(now - NOW)
        assert parcel.row.minimal == min(len(times) - 1, 2)
        assert outbox.settle(box.connection, parcel.row.id, refused, now, 0.5) == "queued"
        now = outbox.next_due(box.connection, "hook") or 0.0
    assert times[:4] == [0.0, 2.0, 272.0, 542.0]
    assert box.send(now=now) == "done"


def test_an_end_that_is_refused_for_good_is_tried_once_more_with_the_least(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.send()
    box.tell("resolved", OVER)
    refused = DeliveryError("no such page", permanent=True, code="404")
    assert box.send(refused) == "queued"
    (parcel,) = box.claim(NOW + 2)
    assert parcel.row.minimal
    assert outbox.settle(box.connection, parcel.row.id, refused, NOW + 2) == "dead"
    assert box.claim(NOW + 9999) == []


def test_what_is_refused_for_good_while_its_end_comes_is_given_up(box: Box) -> None:
    box.tell("firing", OUTAGE)
    refused = DeliveryError("no such page", permanent=True, code="404")
    box.send(refused)
    (parcel,) = box.claim(NOW + 2)
    box.tell("resolved", OVER)
    assert outbox.settle(box.connection, parcel.row.id, refused, NOW + 2) == "dead"
    assert [p.row.kind for p in box.claim(NOW + 2)] == ["resolved"]


def test_a_page_that_was_refused_goes_on_after_a_restart(box: Box) -> None:
    box.tell("firing", OUTAGE)
    refused = DeliveryError("no", permanent=True, code="401")
    assert [box.send(refused, NOW + 5 * n) for n in range(2)] == ["queued", "queued"]
    box.claim(NOW + 999, boot="first")
    outbox.requeue(box.connection, "second", ["hook"], NOW + 1000)
    assert [p.row.minimal for p in box.claim(NOW + 1000, boot="second")] == [2]


def test_retry_after_of_nothing_is_no_haste(box: Box) -> None:
    box.tell("firing", OUTAGE)
    (parcel,) = box.claim()
    row = replace(parcel.row, attempts=1)
    assert outbox.wait_before(row, DeliveryError("busy", retry_after=0.0), NOW, 0.5) == 1.0


def test_an_open_incident_is_never_too_old_but_news_of_its_end_is(box: Box) -> None:
    box.tell("firing", OUTAGE)
    for day in range(30):
        assert box.send(FAILED, NOW + day * 86400) == "queued"
    box.tell("resolved", OVER, NOW + 30 * 86400)
    assert box.claim(NOW + 33 * 86400) == []
    assert box.rows()[-1] == ("resolved", 0, "dead")


def test_settled_recipients_stay_settled(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.send(DeliveryError("greylisted", settled=("a@x",)))
    assert box.send(FAILED, NOW + 600) == "queued"
    assert box.claim(NOW + 1200)[0].row.settled == ("a@x",)


# ---- restart


def test_what_was_under_way_at_a_crash_goes_out_again_under_the_same_id(box: Box) -> None:
    box.tell("firing", OUTAGE)
    (before,) = box.claim(boot="first")
    assert box.claim(boot="second") == []
    assert outbox.requeue(box.connection, "second", ["hook"], NOW) == 1
    (after,) = box.claim(boot="second")
    assert after.row.id == before.row.id
    assert after.row.attempts == 1


def test_a_beginning_under_way_at_a_crash_is_not_told_after_its_end_is_known(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.claim(boot="first")
    box.tell("resolved", OVER)
    outbox.requeue(box.connection, "second", ["hook"], NOW)
    assert box.claim(NOW + 29) == [], "it may still arrive, and after its end it would begin anew"
    assert [p.row.kind for p in box.claim(NOW + 30)] == ["resolved"]


def test_a_restart_repeats_nothing(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.send()
    assert outbox.requeue(box.connection, "second", ["hook"], NOW) == 0
    assert box.claim(NOW + 9999) == []


def test_messages_to_a_receiver_that_is_gone_are_parked_until_it_comes_back(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.send(FAILED)
    outbox.requeue(box.connection, "second", ["other"], NOW)
    assert box.rows() == [("firing", 0, "parked")]
    assert outbox.history(box.connection, OUTAGE.id)[0]["last_error"] == "there is no such receiver now"
    assert outbox.ailing(box.connection, NOW + 9999) == {}
    assert outbox.waiting(box.connection, ["hook"], NOW) == {"hook": (0, 0.0)}
    outbox.requeue(box.connection, "third", ["hook", "other"], NOW + 10)
    assert box.send(now=NOW + 10) == "done"


def test_the_end_is_kept_for_a_receiver_that_is_gone(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.send()
    box.tell("firing", replace(OUTAGE, id="unheard"))
    outbox.requeue(box.connection, "second", [], NOW)
    box.receivers = ()
    box.tell("resolved", OVER)
    box.tell("resolved", replace(OVER, id="unheard"))
    assert box.rows() == [("firing", 0, "done"), ("resolved", 0, "parked"), ("firing", 0, "superseded")]
    outbox.requeue(box.connection, "third", ["hook"], NOW + 10)
    assert [p.row.kind for p in box.claim(NOW + 10)] == ["resolved"]


def test_the_end_that_a_receiver_comes_back_too_late_for_is_not_told(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.send()
    box.receivers = ()
    box.tell("resolved", OVER)
    outbox.requeue(box.connection, "third", ["hook"], NOW + 90_000)
    assert box.claim(NOW + 90_000) == []
    assert box.rows() == [("firing", 0, "done"), ("resolved", 0, "dead")]


def test_changed_settings_are_tried_at_once_and_with_the_whole_page(box: Box) -> None:
    box.tell("firing", OUTAGE)
    refused = DeliveryError("no", permanent=True, code="401")
    assert [box.send(refused, NOW + 5 * n) for n in range(2)] == ["queued", "queued"]
    assert box.claim(NOW + 10) == []
    outbox.retry_now(box.connection, ["hook"], NOW + 10)
    assert [p.row.minimal for p in box.claim(NOW + 10)] == [0]


# ---- what a message is made of


def test_identity_is_of_the_opening_and_words_are_of_now(box: Box) -> None:
    box.tell("firing", OUTAGE)
    grown = replace(OUTAGE, members=(make_member("pay"), make_member("home")))
    box.tell("changed", grown)
    (parcel,) = box.claim()
    assert parcel.row.opened == OUTAGE
    assert parcel.current == grown


def test_an_escalation_knows_what_it_replaces_and_the_end_knows_all(connection: sqlite3.Connection) -> None:
    box = Box(connection, MANAGER)
    box.tell("firing", OUTAGE)
    box.send(name="am")
    box.tell("escalated", WORSE, NOW + 100)
    (parcel,) = box.claim(NOW + 100, "am")
    assert [(t.incident.escalation, t.replaced) for t in parcel.earlier] == [(0, NOW + 100)]
    outbox.settle(connection, parcel.row.id, Delivered(), NOW + 100)
    box.tell("resolved", replace(OVER, escalation=1), NOW + 700)
    (parcel,) = box.claim(NOW + 700, "am")
    assert [(t.incident.escalation, t.replaced) for t in parcel.earlier] == [(0, NOW + 100), (1, NIGHT + 720)]


def test_a_message_names_who_else_is_told(connection: sqlite3.Connection) -> None:
    box = Box(connection, hook(), hook("mail"), hook("chat"))
    box.tell("firing", OUTAGE)
    box.send(name="mail")
    assert box.claim()[0].others == ("chat (not yet)", "mail")


# ---- what is said again


def test_what_lasts_is_said_again_and_an_end_for_five_minutes(connection: sqlite3.Connection) -> None:
    box = Box(connection, MANAGER)
    box.tell("firing", OUTAGE)
    assert outbox.to_repeat(connection, "am", NOW) == []
    box.send(name="am")
    ((firing, _),) = outbox.to_repeat(connection, "am", NOW + 86400)
    box.tell("resolved", OVER, NOW + 700)
    assert outbox.to_repeat(connection, "am", NOW + 700) == []
    assert outbox.again(connection, "am", firing, NOW + 700) is None
    box.send(now=NOW + 700, name="am")
    ((end, _),) = outbox.to_repeat(connection, "am", NOW + 999)
    assert outbox.again(connection, "am", end, NOW + 999) is not None
    assert outbox.to_repeat(connection, "am", NOW + 1000) == []


def test_a_worse_state_that_is_refused_does_not_silence_what_was_told(connection: sqlite3.Connection) -> None:
    box, refused = Box(connection, MANAGER), DeliveryError("no", permanent=True)
    box.tell("firing", OUTAGE)
    box.send(name="am")
    box.tell("escalated", WORSE)
    assert outbox.to_repeat(connection, "am", NOW) == []
    assert [box.send(refused, NOW + 5 * n, "am") for n in range(2)] == ["queued", "queued"]
    ((told, _),) = outbox.to_repeat(connection, "am", NOW)
    assert outbox.again(connection, "am", told, NOW).row.escalation == 0  # type: ignore[union-attr]


# ---- clearing up


def test_only_what_is_over_is_dropped(box: Box) -> None:
    box.tell("firing", OUTAGE)
    box.send()
    box.tell("firing", replace(OUTAGE, id="other"))
    assert outbox.drop_old(box.connection, NOW + 9999) == 0
    box.tell("resolved", OVER)
    for parcel in box.claim():
        if parcel.row.incident == OUTAGE.id:
            outbox.settle(box.connection, parcel.row.id, Delivered(), NOW)
    assert outbox.drop_old(box.connection, NOW + 9999) == 2
    assert {row["incident"] for row in _all(box.connection)} == {"other"}


def test_counters(box: Box) -> None:
    assert outbox.waiting(box.connection, ["hook"], NOW) == {"hook": (0, 0.0)}
    box.tell("firing", OUTAGE)
    assert outbox.waiting(box.connection, ["hook", "mail"], NOW + 5) == {"hook": (1, 5.0), "mail": (0, 0.0)}
    assert outbox.last_success(box.connection) == {}
    box.send(now=NOW + 7)
    assert outbox.last_success(box.connection) == {"hook": NOW + 7}


def _all(connection: sqlite3.Connection) -> list[dict[str, Any]]:
    return [{"incident": incident, "opened": json.loads(data)} for incident, data in connection.execute("SELECT incident, data FROM outbox")]
