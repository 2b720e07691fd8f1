"""Whatever happens in whatever order: nothing is lost, nothing is said twice, and the end never comes before the beginning."""

import random
import sqlite3
from collections import defaultdict
from dataclasses import replace

import pytest
from desk import NIGHT, hook, make_incident, settings

from monitor.alerts import outbox
from monitor.alerts.delivery import Delivered, DeliveryError
from monitor.incidents import Incident, Transition
from monitor.store import records
from monitor.store.schema import migrate

RECEIVERS = (hook(), hook("pages"), hook("tickets", urgency="ticket"), settings("alertmanager", name="am", peers=["http://127.0.0.1:9"]))


class World:
    """Incidents that come, grow and go, receivers that fail as they like, and a daemon that is killed at any moment."""

    def __init__(self, connection: sqlite3.Connection, seed: int) -> None:
        self.random, self.connection = random.Random(seed), connection
        self.now, self.boot, self.count = NIGHT, 0, 0
        self.open: dict[str, Incident] = {}
        self.under_way: list[outbox.Parcel] = []
        self.ids: set[str] = set()
        self.heard: dict[tuple[str, str], list[tuple[str, int]]] = defaultdict(list)

    def step(self) -> None:
        self.now += self.random.expovariate(0.1)
        self.random.choices((self.begin, self.grow, self.end, self.claim, self.answer, self.crash), weights=(2, 1, 2, 8, 8, 1))[0]()

    def begin(self) -> None:
        self.count += 1
        urgency = self.random.choice(("page", "ticket"))
        self.tell("firing", make_incident(f"i{self.count}", urgency=urgency, began=self.now, opened=self.now))

    def grow(self) -> None:
        if self.open:
            incident = self.random.choice(list(self.open.values()))
            self.tell("escalated", replace(incident, urgency="page", escalation=incident.escalation + 1))

    def end(self) -> None:
        if self.open:
            self.tell("resolved", replace(self.random.choice(list(self.open.values())), resolved=self.now))

    def tell(self, what: str, incident: Incident) -> None:
        self.open[incident.id] = incident
        if not incident.open:
            del self.open[incident.id]
        records.save_incident(self.connection, incident, self.now, what)
        outbox.enqueue(self.connection, Transition(what, incident), RECEIVERS, self.now)  # type: ignore[arg-type]

    def claim(self) -> None:
        receiver = self.random.choice(RECEIVERS)
        busy = [p.row.incident for p in self.under_way if p.row.receiver == receiver.name]
        found = outbox.claim(self.connection, receiver.name, str(self.boot), self.now, 4, busy)
        assert not {p.row.incident for p in found} & set(busy)
        self.under_way += found

    def answer(self, *, well: bool = False) -> None:
        if not self.under_way:
            return
        parcel = self.under_way.pop(self.random.randrange(len(self.under_way)))
        fate = 0.0 if well else self.random.random()
        if fate < 0.5:
            self.hear(parcel)
            outbox.settle(self.connection, parcel.row.id, Delivered(), self.now)
        else:
            outbox.settle(self.connection, parcel.row.id, DeliveryError("down"), self.now)

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
        outbox.requeue(self.connection, str(self.boot), [r.name for r in RECEIVERS], self.now)

    def calm(self) -> None:
        """All receivers are well again, for as long as it takes."""
        while any(count for count, _ in outbox.waiting(self.connection, [r.name for r in RECEIVERS], self.now).values()):
            self.now += 400
            for _ in RECEIVERS * 2:
                self.claim()
            while self.under_way:
                self.answer(well=True)


@pytest.mark.parametrize("seed", range(20))
def test_nothing_is_lost_and_order_holds(seed: int) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    migrate(connection)
    world = World(connection, seed)
    for _ in range(300):
        world.step()
    world.calm()
    for (receiver, incident), heard in world.heard.items():
        assert len(heard) == len(set(heard)), "said twice"
        assert heard == sorted(heard, key=lambda told: (told[0] == "resolved", told[1])), "out of order"
        if incident not in world.open:
            assert heard[-1][0] == "resolved", f"{receiver} was never told of the end of {incident}"
    for incident in world.open.values():
        for receiver in RECEIVERS:
            if receiver.hears(incident):
                assert world.heard[receiver.name, incident.id][-1] == ("firing", incident.escalation)
    assert connection.execute("SELECT count(*) FROM outbox WHERE state IN ('queued', 'inflight', 'dead')").fetchone() == (0,)
    connection.close()
