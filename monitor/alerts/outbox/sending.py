"""Taking messages out of the outbox, writing down what became of them, and when each may be tried again."""

import json
import random
import sqlite3
from collections.abc import Collection

from monitor.alerts.delivery import Delivered, DeliveryError
from monitor.alerts.outbox.rows import REFUSED, Parcel, Row, parcel, select
from monitor.alerts.outbox.telling import AMBIGUOUS, LATE_ARRIVAL

Result = Delivered | DeliveryError

BASE = 2.0  # s, doubled with every attempt
FRESH_CAP, OLD_CAP = 60.0, 300.0
FRESH = 3600.0  # s for which a message is tried at least every minute
RETRY_AFTER_CAP = 600.0
RETRY_JITTER = 0.2
MINIMAL_WAIT = 2.0  # s before the first attempt with the least that helps
RESOLVE_REPEATS = 300.0  # s for which the end is said again to a receiver that forgets


def claim(connection: sqlite3.Connection, receiver: str, boot: str, now: float, limit: int, busy: Collection[str] = ()) -> list[Parcel]:
    """Take up to `limit` messages that are due, at most one per incident and none of the incidents in `busy`."""
    taken = []
    for found in due(connection, receiver, now, limit, busy):
        if found.row.expires is not None and found.row.expires <= now:
            connection.execute(
                "UPDATE outbox SET state = 'dead', done = ?, last_error = 'too late to be of use' WHERE id = ?", (now, found.row.id)
            )
            continue
        taken.append(found)
        connection.execute(
            "UPDATE outbox SET state = 'inflight', lease = ?, attempts = attempts + 1, first_attempt = coalesce(first_attempt, ?) WHERE id = ?",
            (boot, now, found.row.id),
        )
    return taken


# One message after the other to each receiver on each incident: what stands behind another waits for it, however long it has been due.
_FIRST = """
    NOT EXISTS (SELECT 1 FROM outbox AS before WHERE before.receiver = outbox.receiver AND before.incident = outbox.incident
                AND before.seq < outbox.seq AND before.state IN ('queued', 'inflight'))"""
_DUE = f"""
    receiver = ? AND state = 'queued' AND not_before <= ? AND incident NOT IN (SELECT value FROM json_each(?))
    AND (kind = 'notice') = ? AND {_FIRST}
    ORDER BY not_before LIMIT ?"""  # noqa: S608 - words of ours


def due(connection: sqlite3.Connection, receiver: str, now: float, limit: int, busy: Collection[str] = ()) -> list[Parcel]:
    """What `claim` would take, without taking it: alarms first, news when there is room."""
    rows: list[Row] = []
    for notice in (False, True):
        if limit > len(rows):
            rows += select(connection, _DUE, (receiver, now, json.dumps(list(busy)), notice, limit - len(rows)))
    return [parcel(connection, row) for row in rows]


def settle(connection: sqlite3.Connection, id_: str, result: Result, now: float, jitter: float | None = None) -> str:
    """Write down how an attempt ended; the row's new state, "" when the store does not know it just now. `jitter` is in [0, 1)."""
    row = next(iter(select(connection, "id = ?", (id_,))), None)
    if row is None:
        return ""
    if isinstance(result, Delivered):
        connection.execute(
            "UPDATE outbox SET state = 'done', done = ?, attempts = max(attempts, 1), last_code = 'ok', last_error = ?, lease = '' WHERE id = ?",
            (now, result.detail[:500], id_),
        )
        return "done"
    state = _state_after(connection, row, result)
    wait = wait_before(row, result, now, random.random() if jitter is None else jitter)  # noqa: S311 - spreads load, guards nothing
    connection.execute(
        "UPDATE outbox SET state = ?, not_before = ?, done = ?, minimal = ?, settled = ?, attempts = max(attempts, 1), "
        "last_code = ?, last_error = ?, lease = '' WHERE id = ?",
        (
            state,
            now + wait,
            None if state == "queued" else now,
            min(row.minimal + result.permanent, REFUSED),
            json.dumps(result.settled or row.settled),
            result.code[:32],
            result.reason[:500],
            id_,
        ),
    )
    if result.code == AMBIGUOUS:
        _hold_back_the_end(connection, row, now + LATE_ARRIVAL)
    return state


def _state_after(connection: sqlite3.Connection, row: Row, error: DeliveryError) -> str:
    """What a failed attempt makes of its row. While an incident is open somebody must hear of it, however often it is refused:
    a token is renewed, a channel is made again. Only what is over is given up.
    """
    refused = error.permanent and row.minimal
    facts = connection.execute("SELECT json_extract(facts, '$.acked_by') FROM incident WHERE id = ? AND resolved IS NULL", (row.incident,)).fetchone()
    if refused and not (row.kind == "firing" and facts):
        return "dead"
    taken = row.kind == "reminder" and facts and facts[0]
    return "superseded" if taken or _over(connection, row) else "queued"


def _over(connection: sqlite3.Connection, row: Row) -> bool:
    """A worse state of the same incident, or its end, waits for this receiver, so this need not be tried again."""
    return bool(
        connection.execute(
            "SELECT 1 FROM outbox WHERE receiver = ? AND incident = ? AND seq > ? AND kind IN ('firing', 'resolved')",
            (row.receiver, row.incident, row.seq),
        ).fetchone()
    )


def _hold_back_the_end(connection: sqlite3.Connection, row: Row, until: float) -> None:
    """What was not answered in time may still arrive, and after the end it would begin anew: the end gives it time."""
    connection.execute(
        "UPDATE outbox SET not_before = max(not_before, ?) "
        "WHERE receiver = ? AND incident = ? AND kind = 'resolved' AND state = 'queued' AND seq > ?",
        (until, row.receiver, row.incident, row.seq),
    )


def wait_before(row: Row, error: DeliveryError, now: float, jitter: float) -> float:
    """Seconds until the next attempt: our own wait, or longer when the receiver asked for more ("Retry-After: 0" is no haste)."""
    asked = min(error.retry_after or 0.0, RETRY_AFTER_CAP) * (1 + RETRY_JITTER * jitter)
    return max(asked, _own_wait(row, error, now, jitter))


def _own_wait(row: Row, error: DeliveryError, now: float, jitter: float) -> float:
    """Exponential back-off with full jitter; for what is refused again and again the longest wait, always nearly whole."""
    if error.permanent:
        return OLD_CAP * (1 - RETRY_JITTER * jitter) if row.minimal else MINIMAL_WAIT
    cap = FRESH_CAP if now - row.created < FRESH else OLD_CAP
    return float(min(cap, BASE * 2 ** min(row.attempts - 1, 20))) * jitter


def next_due(connection: sqlite3.Connection, receiver: str, busy: Collection[str] = ()) -> float | None:
    """When the next message that waits may be tried (Unix s), None when none waits."""
    found = connection.execute(
        "SELECT not_before FROM outbox WHERE receiver = ? AND state = 'queued' AND incident NOT IN (SELECT value FROM json_each(?)) "  # noqa: S608 - words of ours
        f"AND {_FIRST} ORDER BY not_before LIMIT 1",
        (receiver, json.dumps(list(busy))),
    ).fetchone()
    return found[0] if found else None


def requeue(connection: sqlite3.Connection, boot: str, receivers: Collection[str], now: float) -> int:
    """What an earlier process was sending is sent again (how many); what nobody can take now is parked, until somebody can."""
    orphans = select(connection, "state = 'inflight' AND lease <> ?", (boot,))
    for row in orphans:
        over = _over(connection, row)
        connection.execute(
            "UPDATE outbox SET state = ?, not_before = ?, lease = '' WHERE id = ?", ("superseded" if over else "queued", now, row.id)
        )
        if over:
            _hold_back_the_end(connection, row, now + LATE_ARRIVAL)
    names = json.dumps(list(receivers))
    connection.execute(
        "UPDATE outbox SET state = 'parked', last_error = 'there is no such receiver now' "
        "WHERE state = 'queued' AND receiver NOT IN (SELECT value FROM json_each(?))",
        (names,),
    )
    connection.execute(
        "UPDATE outbox SET state = 'queued', not_before = max(not_before, ?) WHERE state = 'parked' AND receiver IN (SELECT value FROM json_each(?))",
        (now, names),
    )
    return len(orphans)


def retry_now(connection: sqlite3.Connection, receivers: Collection[str], now: float) -> None:
    """Their settings were changed, or the network is back: what failed before may go through now, in its whole length."""
    connection.execute(
        "UPDATE outbox SET not_before = min(not_before, ?), minimal = 0 "
        "WHERE state = 'queued' AND attempts > 0 AND receiver IN (SELECT value FROM json_each(?))",
        (now, json.dumps(list(receivers))),
    )


# What a forgetful receiver must hear again: the newest word on an incident, while it lasts or when its end is fresh.
# A newer word that it refuses does not silence the one that it has: silence would be taken for recovery.
_REPEATS = """
    SELECT outbox.id, outbox.incident FROM outbox JOIN incident ON incident.id = outbox.incident
    WHERE outbox.receiver = ? AND outbox.state = 'done'
    AND CASE outbox.kind WHEN 'firing' THEN incident.resolved IS NULL WHEN 'resolved' THEN outbox.done > ? END
    AND NOT EXISTS (SELECT 1 FROM outbox AS later WHERE later.receiver = outbox.receiver
                    AND later.incident = outbox.incident AND later.seq > outbox.seq AND later.kind IN ('firing', 'resolved')
                    AND later.state NOT IN ('dead', 'superseded') AND NOT (later.state = 'queued' AND later.minimal))"""


def to_repeat(connection: sqlite3.Connection, receiver: str, now: float) -> list[tuple[str, str]]:
    """(row, incident) of all that a forgetful receiver must hear again."""
    return list(connection.execute(_REPEATS, (receiver, now - RESOLVE_REPEATS)))


def again(connection: sqlite3.Connection, receiver: str, id_: str, now: float) -> Parcel | None:
    """One of these messages, if it still is the newest word."""
    found = connection.execute(f"{_REPEATS} AND outbox.id = ?", (receiver, now - RESOLVE_REPEATS, id_)).fetchone()
    return parcel(connection, select(connection, "id = ?", (id_,))[0]) if found else None
