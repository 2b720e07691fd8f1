"""The rows of the outbox: reading them, adding one, taking back what waits, and all that a message needs beside its row."""

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from monitor.alerts.delivery import Message, Told, What
from monitor.alerts.page import Delivery, Facts, bare, compose
from monitor.clock import new_id
from monitor.incidents import Incident
from monitor.updates import Update

REFUSED = 2  # in column `minimal`: even the least that helps was refused for good


@dataclass(frozen=True, slots=True)
class Row:
    """One message as it is stored. `opened` is the incident when it was written; `minimal` is 0, 1 (ask for the least that helps) or `REFUSED`."""

    id: str
    receiver: str
    incident: str
    seq: int
    kind: What
    escalation: int
    opened: Incident
    created: float
    attempts: int
    minimal: int
    settled: tuple[str, ...]
    first_attempt: float | None
    done: float | None
    expires: float | None
    last_code: str
    instead_of: str


_NAMES = tuple(f.name for f in fields(Row))
_COLUMNS = ", ".join(_NAMES).replace("opened", "data")


@dataclass(frozen=True, slots=True)
class Parcel:
    """A row with all that its message needs from the store."""

    row: Row
    current: Incident
    update: Update | None
    earlier: tuple[Told, ...]
    others: tuple[str, ...]  # receivers that were told too, or are being told
    heard: bool  # this receiver has heard of the incident before
    unreached: float | None  # when it was first tried to tell the receiver in whose place this one is told

    def message(self, facts: Facts, now: float, runbook: str = "") -> Message:
        """The message as it is true at `now`."""
        delivery = Delivery(
            self.row.receiver, runbook, self.others,
            missed=self.row.kind == "resolved" and not self.heard,
            reminder=self.row.kind == "reminder",
            instead_of=self.row.instead_of if self.row.kind == "firing" else "",
            unreached=self.unreached,
        )
        page = compose(self.current, replace(facts, update=self.update), delivery, now)
        return Message(self.row.id, self.row.kind, self.row.opened, page, self.earlier, self.row.settled, bool(self.row.minimal))

    def bare_message(self, facts: Facts, now: float) -> Message:
        """A message made of next to nothing, for when the words themselves fail."""
        page = bare(self.current, facts, now)
        return Message(self.row.id, self.row.kind, self.row.opened, page, self.earlier, self.row.settled, minimal=True)


def select(connection: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> list[Row]:
    """The rows of which the condition `where` (our own words, never a user's) is true."""
    query = f"SELECT {_COLUMNS} FROM outbox WHERE {where}"  # noqa: S608 - `where` is written in this room
    return [_row(stored) for stored in connection.execute(query, values)]


def insert(
    connection: sqlite3.Connection, receiver: str, kind: What, incident: Incident, now: float, *, story: str = "", state: str = "queued",
    created: float | None = None, not_before: float | None = None, expires: float | None = None, first_attempt: float | None = None,
    instead_of: str = "",
) -> None:
    """Add a message behind all others of its receiver and story (the incident's id, unless `story` says another)."""
    story = story or incident.id
    connection.execute(
        "INSERT INTO outbox (id, receiver, incident, seq, kind, escalation, data, created, not_before, expires, first_attempt, instead_of, state) "
        "SELECT ?, ?, ?, coalesce(max(seq), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM outbox WHERE receiver = ? AND incident = ?",
        (
            new_id(now), receiver, story, kind, incident.escalation, json.dumps(incident.to_dict()),
            now if created is None else created, now if not_before is None else not_before, expires, first_attempt, instead_of, state,
            receiver, story,
        ),
    )


def supersede(connection: sqlite3.Connection, receiver: str, incident: str, why: str, now: float) -> tuple[float, float | None]:
    """Take back what still waits; when the oldest of it was written and first tried, for nothing may look younger than it is."""
    rows = connection.execute(
        "UPDATE outbox SET state = 'superseded', done = ?, last_error = ? WHERE receiver = ? AND incident = ? AND state IN ('queued', 'parked') "
        "RETURNING created, first_attempt",
        (now, why, receiver, incident),
    ).fetchall()
    return min((created for created, _ in rows), default=now), min((first for _, first in rows if first is not None), default=None)


def parcel(connection: sqlite3.Connection, row: Row) -> Parcel:
    """The row with what its message needs."""
    current = connection.execute("SELECT facts FROM incident WHERE id = ?", (row.incident,)).fetchone()
    incident = Incident.from_dict(json.loads(current[0])) if current else row.opened
    found = connection.execute("SELECT facts FROM shop_update WHERE id = ?", (incident.update,)).fetchone()
    told = select(connection, "receiver = ? AND incident = ? AND kind = 'firing' AND attempts > 0 ORDER BY seq", (row.receiver, row.incident))
    return Parcel(
        row=row,
        current=incident,
        update=Update.from_dict(json.loads(found[0])) if found else None,
        earlier=_earlier(told, row, incident),
        others=_others(connection, row),
        heard=bool(
            connection.execute(
                "SELECT 1 FROM outbox WHERE receiver = ? AND incident = ? AND kind = 'firing' AND state = 'done'", (row.receiver, row.incident)
            ).fetchone()
        ),
        unreached=_unreached(connection, row) if row.instead_of else None,
    )


def _earlier(told: Sequence[Row], row: Row, incident: Incident) -> tuple[Told, ...]:
    """What was told before and is not true any more, each until the next took its place; the last until the incident itself was over.

    What is only said again (a reminder) or taken (an acknowledgement) goes on, and ends nothing.
    """
    told = [r for r in told if r.seq < row.seq] if row.kind in {"firing", "resolved"} else []
    ends = [r.created for r in told[1:]]
    last = incident.resolved if row.kind == "resolved" and incident.resolved is not None else row.created
    return tuple(Told(r.opened, end) for r, end in zip(told, [*ends, last], strict=False))


def _others(connection: sqlite3.Connection, row: Row) -> tuple[str, ...]:
    rows = connection.execute(
        "SELECT receiver, max(state = 'done') FROM outbox WHERE incident = ? AND receiver <> ? AND kind = 'firing' "
        "AND state IN ('queued', 'inflight', 'done') GROUP BY receiver ORDER BY receiver LIMIT 20",
        (row.incident, row.receiver),
    )
    return tuple(name if done else f"{name} (not yet)" for name, done in rows)


def _unreached(connection: sqlite3.Connection, row: Row) -> float | None:
    found: tuple[float | None] = connection.execute(
        "SELECT min(coalesce(first_attempt, created)) FROM outbox WHERE receiver = ? AND incident = ? AND kind = 'firing' AND escalation = ?",
        (row.instead_of, row.incident, row.escalation),
    ).fetchone()
    return found[0]


def _row(stored: tuple[Any, ...]) -> Row:
    parts = dict(zip(_NAMES, stored, strict=True))
    return Row(**parts | {"opened": Incident.from_dict(json.loads(parts["opened"])), "settled": tuple(json.loads(parts["settled"]))})
