"""Whatever happens in whatever order, over days: nothing is lost, nothing is said twice, the end never comes before the beginning, and
somebody else is told when a receiver cannot be.
"""

import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from desk import NIGHT, hook, make_incident, settings

from monitor.alerts import outbox
from monitor.alerts.delivery import Delivered, DeliveryError, ReceiverSettings
from monitor.incidents import Incident, Transition
from monitor.store import records
from monitor.store.schema import migrate

RECEIVERS = (
    hook(),
    hook("pages", fallback="stand-in", remind="1h"),
    hook("tickets", urgency="ticket", on=["outage", "update"]),
    hook("stand-in", on=["monitor_fault"]),
    settings("alertmanager", name="am", peers=["http://127.0.0.1:9"]),
)
NAMED = {receiver.name: receiver for receiver in RECEIVERS}
FATES = (
    Delivered(),
    DeliveryError("down", code="connect"),
    DeliveryError("no answer", code="timeout"),
    DeliveryError("no such key", permanent=True, code="401"),
    DeliveryError("busy", retry_after=30.0, code="429"),
)


class World:
    """Incidents that come, grow, are taken and go; receivers that fail as they like, and come and go; a daemon that is killed at any moment."""

    def __init__(self, connection: sqlite3.Connection, seed: int) -> None:
        self.random, self.connection = random.Random(seed), connection
        self.now, self.boot, self.count = NIGHT, 0, 0
        self.present = list(NAMED)
        self.open: dict[str, Incident] = {}
        self.held: set[str] = set()
        self.under_way: list[outbox.Parcel] = []
        self.ids: set[str] = set()
        self.heard: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)

    @property
    def receivers(self) -> list[ReceiverSettings]:
        return [NAMED[name] for name in self.present]

    def step(self) -> None:
        self.now += self.random.choice((1.0, 5.0, 60.0, 900.0)) * self.random.random()
        deeds = {self.begin: 2, self.grow: 1, self.take: 1, self.end: 2, self.hold: 1, self.news: 1,
                 self.look: 6, self.claim: 12, self.answer: 12, self.crash: 1, self.change: 1}
        self.random.choices(list(deeds), weights=list(deeds.values()))[0]()
        self.check()

    # What happens in the shop

    def begin(self) -> None:
        self.count += 1
        urgency = self.random.choice(("page", "ticket"))
        self.tell("firing", make_incident(f"i{self.count}", urgency=urgency, began=self.now, opened=self.now))

    def grow(self) -> None:
        for incident in self.some():
            self.tell("escalated", replace(incident, urgency="page", escalation=incident.escalation + 1, acked_by="", acked_at=None))

    def take(self) -> None:
        for incident in self.some():
            before = self.begun(incident)
            self.tell("acknowledged", replace(incident, acked_by="ann", acked_at=self.now))
            assert self.begun(incident) == before, "somebody is told of what is taken"

    def begun(self, incident: Incident) -> object:
        return self.connection.execute("SELECT count(*) FROM outbox WHERE incident = ? AND kind = 'firing'", (incident.id,)).fetchone()

    def end(self) -> None:
        for incident in self.some():
            self.tell("resolved", replace(incident, resolved=self.now))

    def hold(self) -> None:
        self.held = {incident for incident in self.open if self.random.random() < 0.3}

    def news(self) -> None:
        self.count += 1
        update = f"u{self.count % 3}"
        notice = make_incident(f"notice-{self.count}", kind="update", cause="update", update=update, escalation=self.count, members=(), said="News")
        outbox.notify(self.connection, notice, self.receivers, self.now)

    def some(self) -> Iterator[Incident]:
        if self.open:
            yield self.random.choice(list(self.open.values()))

    def tell(self, what: str, incident: Incident) -> None:
        self.open[incident.id] = incident
        if not incident.open:
            del self.open[incident.id]
        records.save_incident(self.connection, incident, self.now, what)
        outbox.enqueue(self.connection, Transition(what, incident), self.receivers, self.now)  # type: ignore[arg-type]

    # What the lanes do

    def look(self) -> None:
        for receiver in self.receivers:
            outbox.catch_up(self.connection, receiver.name, self.receivers, self.held, self.now)
            assert self.unheard(receiver) == [], "it never heard of it, nor will"
            if receiver.fallback in self.present:
                outbox.stand_in(self.connection, receiver.name, receiver.fallback, NIGHT, self.held, self.now)
                assert self.alone() == [], "nobody was told in its place"
            if receiver.reminds:
                reminders = "SELECT count(*) FROM outbox WHERE kind = 'reminder' AND incident = ?"
                before = {i: self.connection.execute(reminders, (i,)).fetchone() for i in self.held}
                outbox.remind(self.connection, receiver.name, receiver.reminds, self.held, self.now)
                assert before == {i: self.connection.execute(reminders, (i,)).fetchone() for i in self.held}, "reminded while held back"

    def claim(self) -> None:
        name = self.random.choice(self.present) if self.present else ""
        busy = [p.row.incident for p in self.under_way if p.row.receiver == name]
        found = outbox.claim(self.connection, name, str(self.boot), self.now, 4, busy)
        assert not {p.row.incident for p in found} & set(busy)
        self.under_way += found

    def answer(self, *, well: bool = False) -> None:
        if not self.under_way:
            return
        parcel = self.under_way.pop(self.random.randrange(len(self.under_way)))
        fate = FATES[0] if well or self.random.random() < 0.4 else self.random.choice(FATES[1:])
        if isinstance(fate, Delivered):
            self.hear(parcel)
        outbox.settle(self.connection, parcel.row.id, fate, self.now)

    def hear(self, parcel: outbox.Parcel) -> None:
        if parcel.row.id not in self.ids:
            self.ids.add(parcel.row.id)
            self.heard[parcel.row.receiver, parcel.row.incident].append((parcel.row.kind, parcel.row.escalation))

    def crash(self) -> None:
        """Some of what was under way has arrived. It may go out again, and the receiver knows it by its id."""
        for parcel in self.under_way:
            if self.random.random() < 0.5:
                self.hear(parcel)
        self.under_way.clear()
        self.boot += 1
        outbox.requeue(self.connection, str(self.boot), self.present, self.now)

    def change(self, *, whole: bool = False) -> None:
        """Receivers are taken out of the configuration and put back."""
        self.present = [name for name in NAMED if whole or self.random.random() < 0.8]
        outbox.requeue(self.connection, str(self.boot), self.present, self.now)
        outbox.retry_now(self.connection, self.present, self.now)

    def calm(self) -> None:
        """All receivers are there and well again, for as long as it takes."""
        self.held.clear()
        while self.under_way:
            self.answer(well=True)
        self.change(whole=True)
        self.look()
        while any(count for count, _ in outbox.waiting(self.connection, NAMED, self.now).values()):
            self.now += 400
            for name in NAMED:
                self.under_way += outbox.claim(self.connection, name, str(self.boot), self.now, 4)
            while self.under_way:
                self.answer(well=True)

    # What must hold at any moment

    def check(self) -> None:
        lost = self.connection.execute(
            """
            SELECT receiver, incident FROM outbox JOIN incident ON incident.id = outbox.incident
            WHERE outbox.kind = 'firing' AND state IN ('dead', 'superseded') AND resolved IS NULL
            AND NOT EXISTS (SELECT 1 FROM outbox AS later WHERE later.receiver = outbox.receiver AND later.incident = outbox.incident
                            AND later.kind = 'firing' AND later.seq > outbox.seq)""").fetchall()
        assert lost == [], "an open incident is neither told nor waits to be told"

    def unheard(self, receiver: ReceiverSettings) -> list[Incident]:
        """What is open, wanted and not taken, but was never written down for this receiver."""
        known = "SELECT 1 FROM outbox WHERE receiver = ? AND incident = ? AND kind = 'firing' AND escalation = ?"
        return [i for i in self.open.values() if receiver.hears(i) and not i.acked_by and i.id not in self.held
                and not self.connection.execute(known, (receiver.name, i.id, i.escalation)).fetchone()]

    def alone(self) -> list[tuple[str, int]]:
        """Pages that could not be delivered for a minute, and that nobody else was told of."""
        rows = self.connection.execute(
            """
            SELECT incident, escalation FROM outbox WHERE receiver = 'pages' AND kind = 'firing' AND state = 'queued'
            AND last_code <> '' AND first_attempt <= ?
            AND NOT EXISTS (SELECT 1 FROM outbox AS there WHERE there.receiver = 'stand-in' AND there.incident = outbox.incident
                            AND there.kind = 'firing' AND there.escalation >= outbox.escalation)""", (self.now - 60,)).fetchall()
        return [(i, n) for i, n in rows if i in self.open and i not in self.held and not self.open[i].acked_by]


def ordered(heard: list[tuple[str, int]]) -> bool:
    """Does it get worse only, and nothing follows the end?"""
    worse = [escalation for kind, escalation in heard if kind in {"firing", "notice"}]
    return worse == sorted(worse) and all(kind != "resolved" for kind, _ in heard[:-1])


def state_of(connection: sqlite3.Connection, receiver: str, incident: str) -> str:
    found = connection.execute("SELECT state FROM outbox WHERE receiver = ? AND incident = ? AND kind = 'resolved'", (receiver, incident)).fetchone()
    return str(found[0]) if found else ""


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_lost_and_order_holds(seed: int) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection)
        world = World(connection, seed)
        for _ in range(500):
            world.step()
        world.calm()
        for (receiver, incident), heard in world.heard.items():
            assert max(Counter(told for told in heard if told[0] != "reminder").values()) == 1, "said twice"
            assert ordered(heard), (receiver, incident, heard)
            if incident.startswith("i") and incident not in world.open:
                # What is refused for good, or came back too late for it, is written down as dead; nothing else may miss the end.
                assert heard[-1][0] == "resolved" or state_of(connection, receiver, incident) == "dead", (receiver, incident, heard)
        for incident in world.open.values():
            for receiver in RECEIVERS:
                if receiver.hears(incident) and not incident.acked_by:
                    assert ("firing", incident.escalation) in world.heard[receiver.name, incident.id]
        left = connection.execute("SELECT kind, state FROM outbox WHERE state NOT IN ('done', 'superseded')").fetchall()
        assert {state for _, state in left} <= {"dead"}
