"""Who else hears: in place of one that cannot be reached, again after hours, that somebody has taken it, and news."""

import sqlite3
from dataclasses import replace
from typing import Any

import pytest
from desk import FACTS, NIGHT, hook, make_incident, settings

from monitor.alerts import outbox
from monitor.alerts.delivery import Delivered, DeliveryError, ReceiverSettings, hearers
from monitor.incidents import Incident, Transition
from monitor.store import records

NOW = NIGHT + 60
OUTAGE = make_incident()
OVER = replace(OUTAGE, resolved=NIGHT + 9000, resolution="recovered")
WORSE = replace(OUTAGE, escalation=1)
TAKEN = replace(OUTAGE, acked_by="ann", acked_at=NOW + 300)
FAILED = DeliveryError("oncall.example could not be reached: Connection refused", code="connect")
REFUSED = DeliveryError("no such key", permanent=True, code="401")
ONCALL, CHAT, MAIL = hook("oncall", fallback="chat"), hook("chat", on=["regression"]), hook("mail", on=["monitor_fault"])
MANAGER = settings("alertmanager", name="am", peers=["http://127.0.0.1:9"])
FAULT = make_incident("01fault", kind="monitor_fault", cause="self:receiver:oncall", urgency="page", members=(), said="oncall cannot be told")
NEWS = make_incident("notice-1", kind="update", cause="update", update="u1", version="2.0", urgency="ticket", members=(), said="Update 2.0 started")


class Desk:
    def __init__(self, connection: sqlite3.Connection, *receivers: ReceiverSettings) -> None:
        self.connection, self.receivers = connection, receivers

    def tell(self, what: Any, incident: Incident, now: float = NOW) -> None:
        records.save_incident(self.connection, incident, now, what)
        outbox.enqueue(self.connection, Transition(what, incident), self.receivers, now)

    def send(self, name: str, now: float, result: outbox.Result = Delivered(), boot: str = "boot") -> str:  # noqa: B008 - frozen
        (parcel,) = outbox.claim(self.connection, name, boot, now, 8)
        return outbox.settle(self.connection, parcel.row.id, result, now, 0.5)

    def stand_in(self, now: float, held: tuple[str, ...] = (), since: float = NIGHT) -> int:
        return outbox.stand_in(self.connection, "oncall", "chat", since, held, now)

    def remind(self, now: float, held: tuple[str, ...] = ()) -> int:
        return outbox.remind(self.connection, "oncall", 14_400.0, held, now)

    def rows(self, name: str) -> list[tuple[str, int, str]]:
        return self.connection.execute("SELECT kind, escalation, state FROM outbox WHERE receiver = ? ORDER BY incident, seq", (name,)).fetchall()

    def claimed(self, name: str, now: float) -> outbox.Parcel:
        (parcel,) = outbox.claim(self.connection, name, "boot", now, 8)
        return parcel

    def failed(self) -> None:
        """oncall was tried once, and could not be reached."""
        self.tell("firing", OUTAGE)
        self.send("oncall", NOW, FAILED)


@pytest.fixture
def desk(connection: sqlite3.Connection) -> Desk:
    return Desk(connection, ONCALL, CHAT)


# ---- who hears of a fault of ours


@pytest.mark.parametrize(
    ("receivers", "incident", "sick", "names"),
    [
        ((ONCALL, CHAT, MAIL), FAULT, {"oncall"}, ["chat", "mail"]),
        ((ONCALL, CHAT, MAIL), FAULT, {"oncall", "mail"}, ["chat"]),
        ((ONCALL,), FAULT, {"oncall"}, []),
        ((ONCALL, CHAT, MAIL), replace(FAULT, cause="self:store"), set(), ["mail"]),
        ((ONCALL, CHAT), replace(FAULT, cause="self:store"), set(), ["oncall", "chat"]),
        ((ONCALL, CHAT), replace(FAULT, cause="self:store", urgency="ticket"), set(), []),
        ((ONCALL, CHAT, MAIL), OUTAGE, set(), ["oncall"]),
    ],
)
def test_what_nobody_asked_for_does_not_stay_unknown(receivers: Any, incident: Incident, sick: set[str], names: list[str]) -> None:
    assert [r.name for r in hearers(incident, receivers, sick)] == names


def test_receivers_that_fail_themselves_are_not_told_of_another(connection: sqlite3.Connection) -> None:
    desk = Desk(connection, ONCALL, CHAT, MAIL)
    desk.tell("firing", FAULT)
    desk.tell("firing", replace(FAULT, id="02fault", cause="self:receiver:mail"))
    assert [desk.rows(name) for name in ("oncall", "chat", "mail")] == [[], [("firing", 0, "queued")] * 2, [("firing", 0, "queued")]]


# ---- in place of a receiver that cannot be reached


def test_after_a_minute_of_failing_the_fallback_is_told_once_and_of_the_end(desk: Desk) -> None:
    desk.failed()
    assert desk.stand_in(NOW + 59) == 0
    assert desk.stand_in(NOW + 60) == 1
    assert desk.stand_in(NOW + 90) == 0
    parcel = desk.claimed("chat", NOW + 60)
    assert parcel.message(FACTS, NOW + 60).page.why.startswith("instead of oncall, which could not be reached since 02:15; 4 of 4 runs failed")
    outbox.settle(desk.connection, parcel.row.id, Delivered(), NOW + 60)
    desk.tell("resolved", OVER)
    assert desk.rows("chat") == [("firing", 0, "done"), ("resolved", 0, "queued")]
    assert "instead" not in desk.claimed("chat", NOW + 9000).message(FACTS, NOW + 9000).page.why


def test_a_refusal_in_the_least_form_calls_the_fallback_at_once(desk: Desk) -> None:
    desk.tell("firing", OUTAGE)
    desk.send("oncall", NOW, REFUSED)
    assert desk.stand_in(NOW + 1) == 0, "the least that helps was not tried yet"
    desk.send("oncall", NOW + 2, REFUSED)
    assert desk.stand_in(NOW + 2) == 1


def test_a_page_under_way_since_a_crash_is_tried_before_another_is_told(desk: Desk) -> None:
    desk.tell("firing", OUTAGE)
    desk.claimed("oncall", NOW)
    outbox.requeue(desk.connection, "second", ["oncall", "chat"], NOW + 500)
    assert desk.stand_in(NOW + 500) == 0
    desk.send("oncall", NOW + 500, FAILED, boot="second")
    assert desk.stand_in(NOW + 501) == 1


def test_what_was_never_tried_counts_from_the_start_of_the_lane(desk: Desk) -> None:
    desk.tell("firing", OUTAGE)
    assert desk.stand_in(NOW + 600, since=NOW + 580) == 0
    assert desk.stand_in(NOW + 640, since=NOW + 580) == 1


@pytest.mark.parametrize("why", ["held", "taken", "over", "delivered", "hears it anyway"])
def test_no_fallback_without_need(connection: sqlite3.Connection, why: str) -> None:
    desk = Desk(connection, ONCALL, hook("chat") if why == "hears it anyway" else CHAT)
    desk.failed()
    if why in {"taken", "over"}:
        desk.tell(*(("acknowledged", TAKEN) if why == "taken" else ("resolved", OVER)))
    if why == "delivered":
        desk.send("oncall", NOW + 30)
    assert desk.stand_in(NOW + 600, held=(OUTAGE.id,) if why == "held" else ()) == 0


def test_each_escalation_has_its_fallback_and_a_receiver_known_to_fail_no_second_minute(desk: Desk) -> None:
    desk.failed()
    desk.stand_in(NOW + 60)
    desk.tell("escalated", WORSE, NOW + 120)
    assert desk.stand_in(NOW + 121) == 0, "it may be well by now"
    desk.send("oncall", NOW + 121, FAILED)
    assert desk.stand_in(NOW + 122) == 1
    assert desk.rows("chat") == [("firing", 0, "superseded"), ("firing", 1, "queued")]


def test_fallbacks_of_each_other_do_not_go_round_in_circles(connection: sqlite3.Connection) -> None:
    desk = Desk(connection, ONCALL, hook("chat", on=["regression"], fallback="oncall"))
    desk.failed()
    desk.stand_in(NOW + 60)
    desk.send("chat", NOW + 60, FAILED)
    assert outbox.stand_in(connection, "chat", "oncall", NIGHT, (), NOW + 600) == 0


# ---- reminders


def test_what_nobody_takes_is_said_again_every_four_hours(desk: Desk) -> None:
    desk.tell("firing", OUTAGE)
    assert desk.remind(NOW + 20_000) == 0, "not told yet"
    desk.send("oncall", NOW)
    assert desk.remind(NOW + 14_399) == 0
    assert desk.remind(NOW + 14_400) == 1
    assert desk.remind(NOW + 14_500) == 0
    message = desk.claimed("oncall", NOW + 14_400).message(FACTS, NOW + 14_400)
    assert (message.what, message.earlier, message.opened) == ("reminder", (), OUTAGE)
    assert message.page.why == "still wrong after 4 h 1 min, and nobody acknowledged it"
    outbox.settle(desk.connection, message.id, Delivered(), NOW + 14_500)
    assert desk.remind(NOW + 28_899) == 0
    assert desk.remind(NOW + 28_900) == 1
    desk.tell("resolved", OVER)
    assert desk.rows("oncall") == [("firing", 0, "done"), ("reminder", 0, "done"), ("reminder", 0, "superseded"), ("resolved", 0, "queued")]


@pytest.mark.parametrize("incident", [TAKEN, OVER, replace(OUTAGE, urgency="ticket")])
def test_no_reminder_without_need(desk: Desk, incident: Incident) -> None:
    desk.tell("firing", OUTAGE)
    desk.send("oncall", NOW)
    desk.tell("changed" if incident.open else "resolved", incident)
    assert desk.remind(NOW + 99_999) == 0


def test_no_reminder_while_paging_is_held_back(desk: Desk) -> None:
    desk.tell("firing", OUTAGE)
    desk.send("oncall", NOW)
    assert desk.remind(NOW + 14_400, held=(OUTAGE.id,)) == 0
    assert desk.remind(NOW + 14_401) == 1


def test_a_reminder_that_cannot_be_told_gives_way_to_the_next(desk: Desk) -> None:
    desk.tell("firing", OUTAGE)
    desk.send("oncall", NOW)
    desk.remind(NOW + 14_400)
    assert desk.send("oncall", NOW + 14_400, FAILED) == "queued"
    assert outbox.claim(desk.connection, "oncall", "boot", NOW + 28_800, 8) == []
    assert desk.rows("oncall")[-1] == ("reminder", 0, "dead")
    assert desk.remind(NOW + 28_800 + 14_400) == 1


def test_a_reminder_under_way_is_not_tried_again_when_somebody_has_taken_it(desk: Desk) -> None:
    desk.tell("firing", OUTAGE)
    desk.send("oncall", NOW)
    desk.remind(NOW + 14_400)
    parcel = desk.claimed("oncall", NOW + 14_400)
    desk.tell("acknowledged", TAKEN)
    assert outbox.settle(desk.connection, parcel.row.id, FAILED, NOW + 14_401) == "superseded"


@pytest.mark.parametrize(("receiver", "seconds"), [(hook(), 14_400), (hook(remind="30m"), 1800), (hook(remind="0s"), 0), (MANAGER, 0)])
def test_who_reminds_by_itself_is_not_reminded(receiver: ReceiverSettings, seconds: float) -> None:
    assert receiver.reminds == seconds


# ---- somebody has taken it


def test_who_was_told_hears_that_it_is_taken_after_its_page(connection: sqlite3.Connection) -> None:
    desk = Desk(connection, ONCALL, CHAT, MANAGER)
    desk.tell("firing", OUTAGE)
    desk.send("oncall", NOW, FAILED)
    for what in ("acknowledged", "changed", "acknowledged"):
        desk.tell(what, TAKEN, NOW + 1)
    assert desk.rows("oncall") == [("firing", 0, "queued"), ("acknowledged", 0, "queued")]
    assert (desk.rows("chat"), desk.rows("am")) == ([], [("firing", 0, "queued")]), "not told, and does not care"
    assert desk.send("oncall", NOW + 60, FAILED) == "queued", "an acknowledgement takes no page back"
    desk.send("oncall", NOW + 120)
    message = desk.claimed("oncall", NOW + 121).message(FACTS, NOW + 121)
    assert (message.what, message.opened, message.earlier, message.page.acked_by) == ("acknowledged", OUTAGE, (), "ann")


def test_what_got_worse_after_it_was_taken_is_a_page_and_can_be_taken_again(desk: Desk) -> None:
    desk.tell("firing", OUTAGE)
    desk.send("oncall", NOW)
    desk.tell("acknowledged", TAKEN)
    desk.tell("escalated", WORSE)
    assert desk.rows("oncall") == [("firing", 0, "done"), ("acknowledged", 0, "superseded"), ("firing", 1, "queued")]
    desk.tell("acknowledged", replace(WORSE, acked_by="bob", acked_at=NOW))
    assert desk.rows("oncall")[-1] == ("acknowledged", 1, "queued")


# ---- news


def test_news_goes_to_those_who_asked_in_order_and_is_dropped_when_late(connection: sqlite3.Connection) -> None:
    desk = Desk(connection, hook("chat", on=["update"]), hook("oncall"), settings("alertmanager", name="am", peers=["http://x"], on=["update"]))
    for number in range(2):
        outbox.notify(connection, replace(NEWS, id=f"notice-{number}", said=f"Step {number}"), desk.receivers, NOW)
    assert [desk.rows(name) for name in ("chat", "oncall", "am")] == [[("notice", 0, "queued")] * 2, [], []]
    parcel = desk.claimed("chat", NOW)
    message = parcel.message(FACTS, NOW)
    assert (message.what, message.page.sentence, message.page.link) == ("notice", "Step 0", "")
    assert outbox.settle(connection, parcel.row.id, FAILED, NOW) == "queued", "the next piece of news does not replace it"
    assert desk.claimed("chat", NOW + 250_000).message(FACTS, NOW).page.sentence == "Step 0"
    outbox.settle(connection, parcel.row.id, FAILED, NOW + 250_000)
    assert outbox.claim(connection, "chat", "boot", NOW + 260_000, 8) == []
    assert desk.rows("chat")[0] == ("notice", 0, "dead")
    assert outbox.drop_old(connection, NOW + 300_000) == 2


def test_an_alarm_goes_before_news(connection: sqlite3.Connection) -> None:
    desk = Desk(connection, hook("chat", on=["update", "outage"]))
    for number in range(20):
        outbox.notify(connection, replace(NEWS, update=f"u{number}"), desk.receivers, NOW - 100)
    desk.tell("firing", OUTAGE)
    kinds = [p.row.kind for p in outbox.claim(connection, "chat", "boot", NOW, 3)]
    assert kinds == ["firing", "notice", "notice"]


# ---- a receiver that does not get what it should


def test_a_receiver_is_ailing_when_it_refuses_or_after_five_minutes(desk: Desk) -> None:
    desk.failed()
    assert outbox.ailing(desk.connection, NOW + 299) == {}
    assert outbox.ailing(desk.connection, NOW + 300) == {"oncall": outbox.Ailing(NOW, FAILED.reason, refused=False, pages=1)}
    desk.tell("firing", replace(OUTAGE, id="other"), NOW + 300)
    for number in range(2):
        assert outbox.claim(desk.connection, "oncall", "boot", NOW + 300 + 5 * number, 8, (OUTAGE.id,))
        row = desk.connection.execute("SELECT id FROM outbox WHERE incident = 'other' AND receiver = 'oncall'").fetchone()[0]
        outbox.settle(desk.connection, row, REFUSED, NOW + 300 + 5 * number)
    assert outbox.ailing(desk.connection, NOW + 306)["oncall"] == outbox.Ailing(NOW, FAILED.reason, refused=True, pages=2)
    desk.tell("resolved", OVER, NOW + 400)
    desk.tell("resolved", replace(OVER, id="other"), NOW + 400)
    assert outbox.ailing(desk.connection, NOW + 400) == {}


def test_a_page_that_only_waits_for_its_turn_is_no_sign_of_illness(desk: Desk) -> None:
    desk.tell("firing", OUTAGE)
    assert outbox.ailing(desk.connection, NOW + 9999) == {}


# ---- an attempt without an answer


@pytest.mark.parametrize("late", [True, False])
def test_the_end_gives_a_beginning_without_an_answer_time_to_arrive(desk: Desk, late: bool) -> None:
    unanswered = DeliveryError("no answer", code="timeout")
    desk.tell("firing", OUTAGE)
    if late:
        parcel = desk.claimed("oncall", NOW)
        desk.tell("resolved", OVER, NOW + 1)
        outbox.settle(desk.connection, parcel.row.id, unanswered, NOW + 1)
    else:
        desk.send("oncall", NOW + 1, unanswered)
        desk.tell("resolved", OVER, NOW + 1)
    assert desk.rows("oncall") == [("firing", 0, "superseded"), ("resolved", 0, "queued")]
    assert outbox.claim(desk.connection, "oncall", "boot", NOW + 30, 8) == []
    assert desk.claimed("oncall", NOW + 31).row.kind == "resolved"


def test_a_store_that_does_not_know_the_message_says_so(connection: sqlite3.Connection) -> None:
    assert outbox.settle(connection, "unknown", Delivered(), NOW) == ""
