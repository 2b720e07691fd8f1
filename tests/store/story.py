"""An incident and its page, written to a store as the casebook and the dispatch do it."""

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from itertools import count as numbers
from typing import Any

from made import NOW

from monitor.alerts import outbox
from monitor.alerts.delivery import Delivered, ReceiverSettings
from monitor.alerts.table import RECEIVERS
from monitor.health import Flip, State
from monitor.incidents import Incident, Transition
from monitor.store import Store, records

RECEIVER: ReceiverSettings = RECEIVERS["webhook"].settings.model_validate(
    {"name": "hook", "kind": "webhook", "url": "http://127.0.0.1:9/", "secret": "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" * 2})
_NUMBERS: Iterator[int] = numbers(1)


def outage(name: str) -> Incident:
    return Incident(id=name, kind="outage", cause="status", urgency="page", opened=NOW, began=NOW - 60, told=True)


def flip(number: int) -> Flip:
    return Flip("pay", "", "", State.UP, State.DOWN, "status", NOW + number, NOW, evidence=f"HTTP {number}")


async def tell(store: Store, what: Any, incident: Incident) -> None:
    """The transition and its messages in one essential transaction."""
    def work(connection: sqlite3.Connection) -> None:
        records.add_flip(connection, flip(next(_NUMBERS)))
        records.save_incident(connection, incident, NOW, what)
        outbox.enqueue(connection, Transition(what, incident), [RECEIVER], NOW)
    await store.write(work, essential=True)


async def begin(store: Store, name: str) -> Incident:
    await tell(store, "firing", outage(name))
    return outage(name)


async def end(store: Store, incident: Incident) -> None:
    await tell(store, "resolved", replace(incident, resolved=NOW + 60, resolution="recovered"))


async def claim(store: Store) -> list[outbox.Parcel]:
    return await store.write(lambda c: outbox.claim(c, "hook", "boot", NOW, 8), essential=True)


async def deliver(store: Store) -> list[str]:
    """Send what is due; the incidents that were told."""
    parcels = await claim(store)
    for parcel in parcels:
        await store.write(lambda c, id_=parcel.row.id: outbox.settle(c, id_, Delivered(), NOW), essential=True)  # type: ignore[misc]
    return [parcel.row.incident for parcel in parcels]


def states(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    return connection.execute("SELECT incident, kind, state FROM outbox ORDER BY incident, seq").fetchall()


def steps(connection: sqlite3.Connection) -> list[tuple[int, str, str]]:
    return connection.execute("SELECT id, incident, what FROM incident_step ORDER BY id").fetchall()


def flips(connection: sqlite3.Connection) -> list[int]:
    return [id_ for (id_,) in connection.execute("SELECT id FROM flip ORDER BY id")]


def sound(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok")
