"""Whom what is to be told: the rows that a transition, a piece of news, an unreachable receiver or a long silence asks for."""

import json
import sqlite3
from collections.abc import Collection, Sequence

from monitor.alerts.delivery import RECEIVER_FAULT, ReceiverSettings, hearers
from monitor.alerts.outbox.rows import REFUSED, insert, select, supersede
from monitor.incidents import Incident, Transition

FALLBACK_AFTER = 60.0  # s for which a receiver may fail before another is told in its place
AMBIGUOUS = "timeout"  # the code of an attempt that may arrive all the same, later
LATE_ARRIVAL = 30.0  # s that an end waits for such a beginning, which would open the story anew
BITE = 50  # rows written in one turn, so that the writer's turns stay short


def enqueue(connection: sqlite3.Connection, transition: Transition, receivers: Sequence[ReceiverSettings], now: float) -> None:
    """Write down whom this transition is to be told to; call it in the incident's own transaction, after the incident is saved.

    A receiver hears of an incident once per escalation, when it becomes something that it wants to hear of, unless somebody has
    taken it; of that, if it cares; and of its end if it has, or may have, heard of it, whatever it wants to hear of now.
    """
    incident = transition.incident
    if not incident.open:
        _end(connection, incident, receivers, now)
        return
    if incident.acked_by:
        _taken(connection, incident, receivers, now)
        return
    sick = _sick(connection) if incident.cause.startswith(RECEIVER_FAULT) else frozenset()
    for receiver in hearers(incident, receivers, sick):
        if not _fired(connection, receiver.name, incident):
            _begin(connection, receiver.name, incident, now)


def catch_up(
    connection: sqlite3.Connection, receiver: str, receivers: Sequence[ReceiverSettings], held: Collection[str], now: float
) -> int:
    """Tell `receiver`, one of `receivers`, of what lasts, was told before it was there, and nobody has taken; how many messages that makes.

    Nothing of the incidents in `held`.
    """
    rows = connection.execute(
        """
        SELECT facts FROM incident WHERE resolved IS NULL AND json_extract(facts, '$.told') AND json_extract(facts, '$.acked_by') = ''
        AND id NOT IN (SELECT value FROM json_each(?))
        AND NOT EXISTS (SELECT 1 FROM outbox WHERE receiver = ? AND outbox.incident = incident.id AND kind = 'firing'
                        AND escalation >= json_extract(facts, '$.escalation')) ORDER BY id""",
        (json.dumps(list(held)), receiver),
    )
    unheard, sick = (Incident.from_dict(json.loads(facts)) for (facts,) in rows.fetchall()), _sick(connection)
    missed = [incident for incident in unheard if any(r.name == receiver for r in hearers(incident, receivers, sick))][:BITE]
    for incident in missed:
        _begin(connection, receiver, incident, now)
    return len(missed)


def notify(connection: sqlite3.Connection, incident: Incident, receivers: Sequence[ReceiverSettings], now: float) -> None:
    """Write down news that is no alarm (of kind update or announcement). News of one update go out in their order; late news are dropped."""
    for receiver in receivers:
        if receiver.takes_notices and receiver.hears(incident):
            insert(connection, receiver.name, "notice", incident, now, story=incident.update, expires=now + receiver.keeps)


def stand_in(connection: sqlite3.Connection, receiver: str, other: str, since: float, held: Collection[str], now: float) -> int:
    """Tell `other` what `receiver` could not be told for a minute, or refuses for good; how many messages that makes.

    Once per incident and escalation, and not if `other` is told anyway. All counts from `since` (Unix s) on at the earliest, since when
    the receiver is to blame for what it does not get; what has not even been tried, from when it was ready to go: a receiver may have
    asked to be left alone. Nothing of the incidents in `held`.
    """
    rows = select(
        connection,
        f"""
        receiver = ? AND kind = 'firing' AND state IN ('queued', 'inflight') AND incident NOT IN (SELECT value FROM json_each(?))
        AND (minimal = {REFUSED} OR max(CASE WHEN attempts = 0 THEN not_before WHEN last_code <> '' THEN first_attempt END, ?) <= ?)
        AND EXISTS (SELECT 1 FROM incident WHERE id = outbox.incident AND resolved IS NULL AND json_extract(facts, '$.acked_by') = '')
        AND NOT EXISTS (SELECT 1 FROM outbox AS there WHERE there.receiver = ? AND there.incident = outbox.incident
                        AND there.kind = 'firing' AND there.escalation >= outbox.escalation)
        ORDER BY created LIMIT {BITE}""",  # noqa: S608 - numbers of ours
        (receiver, json.dumps(list(held)), since, now - FALLBACK_AFTER, other),
    )
    for row in rows:
        _begin(connection, other, row.opened, now, instead_of=receiver)
    return len(rows)


def remind(connection: sqlite3.Connection, receiver: str, every: float, held: Collection[str], now: float) -> int:
    """Say again what pages, lasts, was told `every` s ago and nobody has taken; how many messages that makes. Nothing of the incidents in `held`."""
    rows = select(
        connection,
        f"""
        receiver = ? AND incident IN (SELECT id FROM incident WHERE resolved IS NULL
                                      AND json_extract(facts, '$.urgency') = 'page' AND json_extract(facts, '$.acked_by') = '')
        AND incident NOT IN (SELECT value FROM json_each(?)) AND kind IN ('firing', 'reminder') AND state IN ('done', 'dead') AND done <= ?
        AND NOT EXISTS (SELECT 1 FROM outbox AS later WHERE later.receiver = outbox.receiver AND later.incident = outbox.incident
                        AND later.seq > outbox.seq AND later.kind IN ('firing', 'reminder') AND later.state <> 'superseded')
        ORDER BY done LIMIT {BITE}""",  # noqa: S608 - a number of ours
        (receiver, json.dumps(list(held)), now - every),
    )
    for row in rows:
        insert(connection, receiver, "reminder", row.opened, now, expires=now + every)
    return len(rows)


def _begin(connection: sqlite3.Connection, receiver: str, incident: Incident, now: float, instead_of: str = "") -> None:
    created, first = supersede(connection, receiver, incident.id, "a worse state replaces it", now)
    insert(connection, receiver, "firing", incident, now, created=created, first_attempt=first, instead_of=instead_of)


def _fired(connection: sqlite3.Connection, receiver: str, incident: Incident) -> bool:
    return bool(
        connection.execute(
            "SELECT 1 FROM outbox WHERE receiver = ? AND incident = ? AND kind = 'firing' AND escalation >= ?",
            (receiver, incident.id, incident.escalation),
        ).fetchone()
    )


def _taken(connection: sqlite3.Connection, incident: Incident, receivers: Sequence[ReceiverSettings], now: float) -> None:
    """Somebody is at it: nobody is reminded any more, and those that keep states hear of it, once."""
    connection.execute(
        "UPDATE outbox SET state = 'superseded', done = ?, last_error = 'somebody has taken it' "
        "WHERE incident = ? AND kind = 'reminder' AND state IN ('queued', 'parked')",
        (now, incident.id),
    )
    for receiver in receivers:
        rows = select(connection, "receiver = ? AND incident = ? ORDER BY seq DESC", (receiver.name, incident.id)) if receiver.hears_acks else []
        newest = next((row for row in rows if row.kind in {"firing", "acknowledged", "resolved"}), None)
        if newest and newest.kind == "firing":
            insert(connection, receiver.name, "acknowledged", newest.opened, now, expires=now + receiver.keeps)


def _end(connection: sqlite3.Connection, incident: Incident, receivers: Sequence[ReceiverSettings], now: float) -> None:
    """The end for all that were told, also for those that are not configured just now: should they come back in time, they hear of it."""
    known = {receiver.name: receiver for receiver in receivers}
    for (name,) in connection.execute("SELECT DISTINCT receiver FROM outbox WHERE incident = ?", (incident.id,)).fetchall():
        rows = select(connection, "receiver = ? AND incident = ?", (name, incident.id))
        if any(row.kind == "resolved" for row in rows):
            continue
        supersede(connection, name, incident.id, "it is over", now)
        receiver: ReceiverSettings | type[ReceiverSettings] = known.get(name, ReceiverSettings)
        if any(row.attempts for row in rows) or (name in known and receiver.tells_missed):
            late = any(row.done is None and row.last_code == AMBIGUOUS for row in rows)
            insert(
                connection, name, "resolved", incident, now, not_before=now + LATE_ARRIVAL if late else now, expires=now + receiver.keeps,
                state="queued" if name in known else "parked",
            )


def _sick(connection: sqlite3.Connection) -> frozenset[str]:
    """Names of receivers that have an open fault of their own."""
    causes = connection.execute("SELECT json_extract(facts, '$.cause') FROM incident WHERE resolved IS NULL AND kind = 'monitor_fault'")
    return frozenset(cause.removeprefix(RECEIVER_FAULT) for (cause,) in causes if cause.startswith(RECEIVER_FAULT))
