"""Messages kept until their receiver has them. Each function runs inside a transaction of the store.

A row is written in the transaction of the incident that it tells, and holds facts, not words. Its life:

    queued ──claim──> inflight ──settle──> done | dead | queued again
       └── superseded: something newer says more, or it is over and nobody heard of it

Per receiver and incident the rows go out one after the other (the end never overtakes the beginning); across receivers
and incidents they do not wait for each other.
"""

import json
import random
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from monitor.alerts.delivery import Delivered, DeliveryError, Message, ReceiverSettings, Told, What
from monitor.alerts.page import Delivery, Facts, bare, compose
from monitor.clock import new_id
from monitor.incidents import Incident, Transition
from monitor.updates import Update

Result = Delivered | DeliveryError

BASE = 2.0  # s, doubled with every attempt
FRESH_CAP, OLD_CAP = 60.0, 300.0
FRESH = 3600.0  # s for which a message is tried at least every minute
RETRY_AFTER_CAP = 600.0
RETRY_JITTER = 0.2
MINIMAL_WAIT = 2.0  # s before the first attempt with the least that helps
RESOLVE_REPEATS = 300.0  # s for which the end is said again to a receiver that forgets


@dataclass(frozen=True, slots=True)
class Row:
    """One message as it is stored. `opened` is the incident when it was written."""

    id: str
    receiver: str
    incident: str
    seq: int
    kind: What
    escalation: int
    opened: Incident
    created: float
    attempts: int
    minimal: bool
    settled: tuple[str, ...]
    done: float | None
    expires: float | None


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

    def message(self, facts: Facts, now: float, runbook: str = "") -> Message:
        """The message as it is true at `now`."""
        missed = self.row.kind == "resolved" and not self.heard
        delivery = Delivery(self.row.receiver, runbook, self.others, missed)
        page = compose(self.current, replace(facts, update=self.update), delivery, now)
        return Message(self.row.id, self.row.kind, self.row.opened, page, self.earlier, self.row.settled, self.row.minimal)

    def bare_message(self, facts: Facts, now: float) -> Message:
        """A message made of next to nothing, for when the words themselves fail."""
        page = bare(self.current, facts, now)
        return Message(self.row.id, self.row.kind, self.row.opened, page, self.earlier, self.row.settled, minimal=True)


# ---- writing down ----------------------------------------------------------------------------------------------------


def enqueue(connection: sqlite3.Connection, transition: Transition, receivers: Sequence[ReceiverSettings], now: float) -> None:
    """Write down whom this transition is to be told to; call it in the incident's own transaction.

    A receiver hears of an incident once per escalation, when it becomes something that it wants to hear of; and of its
    end if it has, or may have, heard of it, whatever it wants to hear of now.
    """
    incident = transition.incident
    for receiver in receivers:
        rows = _rows(connection, "receiver = ? AND incident = ? ORDER BY seq", (receiver.name, incident.id))
        if incident.open and receiver.hears(incident) and not _fired(rows, incident.escalation):
            created = _supersede(connection, receiver.name, incident.id, "a worse state replaces it", now)
            _insert(connection, receiver, "firing", incident, rows, created, now)
        if not incident.open and rows and not any(row.kind == "resolved" for row in rows):
            _supersede(connection, receiver.name, incident.id, "it is over", now)
            if receiver.tells_missed or any(row.attempts for row in rows):
                _insert(connection, receiver, "resolved", incident, rows, now, now)


def _fired(rows: Iterable[Row], escalation: int) -> bool:
    return any(row.kind == "firing" and row.escalation >= escalation for row in rows)


def _supersede(connection: sqlite3.Connection, receiver: str, incident: str, why: str, now: float) -> float:
    """Take back what still waits; when the oldest of it was written, for nothing may look younger than it is."""
    rows = connection.execute(
        "UPDATE outbox SET state = 'superseded', done = ?, last_error = ? WHERE receiver = ? AND incident = ? AND state = 'queued' RETURNING created",
        (now, why, receiver, incident),
    ).fetchall()
    return min((created for (created,) in rows), default=now)


def _insert(
    connection: sqlite3.Connection, receiver: ReceiverSettings, kind: What, incident: Incident, rows: Sequence[Row], created: float, now: float
) -> None:
    # An open incident's message never expires: somebody must hear of it, however late.
    expires = now + receiver.keeps if kind == "resolved" else None
    connection.execute(
        "INSERT INTO outbox (id, receiver, incident, seq, kind, escalation, data, created, not_before, expires) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            new_id(now),
            receiver.name,
            incident.id,
            max((r.seq for r in rows), default=0) + 1,
            kind,
            incident.escalation,
            json.dumps(incident.to_dict()),
            created,
            now,
            expires,
        ),
    )


# ---- sending out -----------------------------------------------------------------------------------------------------


def claim(connection: sqlite3.Connection, receiver: str, boot: str, now: float, limit: int, busy: Collection[str] = ()) -> list[Parcel]:
    """Take up to `limit` messages that are due, at most one per incident and none of the incidents in `busy`."""
    taken = []
    for parcel in due(connection, receiver, now, limit, busy):
        if parcel.row.expires is not None and parcel.row.expires <= now:
            _close(connection, parcel.row.id, "dead", "too late to be of use", now)
            continue
        taken.append(parcel)
        connection.execute(
            "UPDATE outbox SET state = 'inflight', lease = ?, attempts = attempts + 1, first_attempt = coalesce(first_attempt, ?) WHERE id = ?",
            (boot, now, parcel.row.id),
        )
    return taken


def due(connection: sqlite3.Connection, receiver: str, now: float, limit: int, busy: Collection[str] = ()) -> list[Parcel]:
    """What `claim` would take, without taking it."""
    rows = _rows(
        connection,
        """
        receiver = ? AND state = 'queued' AND not_before <= ? AND incident NOT IN (SELECT value FROM json_each(?))
        AND NOT EXISTS (SELECT 1 FROM outbox AS before WHERE before.receiver = outbox.receiver AND before.incident = outbox.incident
                        AND before.seq < outbox.seq AND before.state IN ('queued', 'inflight'))
        ORDER BY not_before LIMIT ?""",
        (receiver, now, json.dumps(list(busy)), limit),
    )
    return [_parcel(connection, row) for row in rows]


def settle(connection: sqlite3.Connection, id_: str, result: Result, now: float, jitter: float | None = None) -> str:
    """Write down how an attempt ended; the row's new state. `jitter` is in [0, 1)."""
    row = _rows(connection, "id = ?", (id_,))[0]
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
            row.minimal or result.permanent,
            json.dumps(result.settled or row.settled),
            result.code[:32],
            result.reason[:500],
            id_,
        ),
    )
    return state


def _state_after(connection: sqlite3.Connection, row: Row, error: DeliveryError) -> str:
    """What a failed attempt makes of its row. While an incident is open somebody must hear of it, however often it is refused:
    a token is renewed, a channel is made again. Only what is over is given up.
    """
    refused = error.permanent and row.minimal
    lasts = row.kind == "firing" and connection.execute("SELECT 1 FROM incident WHERE id = ? AND resolved IS NULL", (row.incident,)).fetchone()
    if refused and not lasts:
        return "dead"
    return "superseded" if _over(connection, row) else "queued"


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
        "SELECT not_before FROM outbox WHERE receiver = ? AND state = 'queued' AND incident NOT IN (SELECT value FROM json_each(?)) "
        "ORDER BY not_before LIMIT 1",
        (receiver, json.dumps(list(busy))),
    ).fetchone()
    return found[0] if found else None


def requeue(connection: sqlite3.Connection, boot: str, receivers: Collection[str], now: float) -> int:
    """At start: what an earlier process was sending is sent again (how many); what nobody can take any more is put aside."""
    connection.execute(
        "UPDATE outbox SET state = 'dead', done = ?, last_error = 'there is no such receiver any more' "
        "WHERE state IN ('queued', 'inflight') AND receiver NOT IN (SELECT value FROM json_each(?))",
        (now, json.dumps(list(receivers))),
    )
    orphans = _rows(connection, "state = 'inflight' AND lease <> ?", (boot,))
    for row in orphans:
        state = "superseded" if _over(connection, row) else "queued"
        connection.execute("UPDATE outbox SET state = ?, not_before = ?, lease = '' WHERE id = ?", (state, now, row.id))
    return len(orphans)


# What a forgetful receiver must hear again: the newest word on an incident, while it lasts or when its end is fresh.
# A newer word that it refuses does not silence the one that it has: silence would be taken for recovery.
_REPEATS = """
    SELECT outbox.id, outbox.incident FROM outbox JOIN incident ON incident.id = outbox.incident
    WHERE outbox.receiver = ? AND outbox.state = 'done'
    AND CASE outbox.kind WHEN 'firing' THEN incident.resolved IS NULL ELSE outbox.done > ? END
    AND NOT EXISTS (SELECT 1 FROM outbox AS later WHERE later.receiver = outbox.receiver
                    AND later.incident = outbox.incident AND later.seq > outbox.seq
                    AND later.state NOT IN ('dead', 'superseded') AND NOT (later.state = 'queued' AND later.minimal))"""


def to_repeat(connection: sqlite3.Connection, receiver: str, now: float) -> list[tuple[str, str]]:
    """(row, incident) of all that a forgetful receiver must hear again."""
    return list(connection.execute(_REPEATS, (receiver, now - RESOLVE_REPEATS)))


def again(connection: sqlite3.Connection, receiver: str, id_: str, now: float) -> Parcel | None:
    """One of these messages, if it still is the newest word."""
    found = connection.execute(f"{_REPEATS} AND outbox.id = ?", (receiver, now - RESOLVE_REPEATS, id_)).fetchone()
    return _parcel(connection, _rows(connection, "id = ?", (id_,))[0]) if found else None


def _close(connection: sqlite3.Connection, id_: str, state: str, why: str, now: float) -> None:
    connection.execute("UPDATE outbox SET state = ?, done = ?, last_error = ? WHERE id = ?", (state, now, why, id_))


def _over(connection: sqlite3.Connection, row: Row) -> bool:
    """Something newer on the same incident waits for this receiver, so this need not be tried again."""
    return bool(
        connection.execute("SELECT 1 FROM outbox WHERE receiver = ? AND incident = ? AND seq > ?", (row.receiver, row.incident, row.seq)).fetchone()
    )


def _parcel(connection: sqlite3.Connection, row: Row) -> Parcel:
    current = connection.execute("SELECT facts FROM incident WHERE id = ?", (row.incident,)).fetchone()
    incident = Incident.from_dict(json.loads(current[0])) if current else row.opened
    found = connection.execute("SELECT facts FROM shop_update WHERE id = ?", (incident.update,)).fetchone()
    told = _rows(connection, "receiver = ? AND incident = ? AND kind = 'firing' AND attempts > 0 ORDER BY seq", (row.receiver, row.incident))
    return Parcel(
        row=row,
        current=incident,
        update=Update.from_dict(json.loads(found[0])) if found else None,
        earlier=_earlier([r for r in told if r.seq < row.seq], row, incident),
        others=_others(connection, row),
        heard=bool(
            connection.execute(
                "SELECT 1 FROM outbox WHERE receiver = ? AND incident = ? AND kind = 'firing' AND state = 'done'", (row.receiver, row.incident)
            ).fetchone()
        ),
    )


def _earlier(told: Sequence[Row], row: Row, incident: Incident) -> tuple[Told, ...]:
    """What was told before, each until the next took its place; the last until the incident itself was over."""
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


def _rows(connection: sqlite3.Connection, where: str, values: tuple[Any, ...]) -> list[Row]:
    query = f"SELECT {_COLUMNS} FROM outbox WHERE {where}"  # noqa: S608 - `where` is written above
    return [_row(stored) for stored in connection.execute(query, values)]


def _row(stored: tuple[Any, ...]) -> Row:
    parts = dict(zip(_NAMES, stored, strict=True))
    parts |= {"opened": Incident.from_dict(json.loads(parts["opened"])), "settled": tuple(json.loads(parts["settled"]))}
    return Row(**parts | {"minimal": bool(parts["minimal"])})


# ---- looking on, and clearing up -------------------------------------------------------------------------------------


def waiting(connection: sqlite3.Connection, receivers: Iterable[str], now: float) -> dict[str, tuple[int, float]]:
    """Messages that wait, by receiver: how many, and the age of the oldest in s."""
    found = {
        receiver: (count, max(0.0, now - oldest))
        for receiver, count, oldest in connection.execute(
            "SELECT receiver, count(*), min(created) FROM outbox WHERE state IN ('queued', 'inflight') GROUP BY receiver"
        )
    }
    return {receiver: found.get(receiver, (0, 0.0)) for receiver in receivers}


def last_success(connection: sqlite3.Connection) -> dict[str, float]:
    """When each receiver last took a message (Unix s)."""
    return dict(connection.execute("SELECT receiver, max(done) FROM outbox WHERE state = 'done' GROUP BY receiver"))


def history(connection: sqlite3.Connection, incident: str) -> list[dict[str, Any]]:
    """What became of every message of an incident, for its page and the report."""
    names = ("id", "receiver", "kind", "escalation", "state", "created", "attempts", "first_attempt", "done", "last_code", "last_error")
    rows = connection.execute(f"SELECT {', '.join(names)} FROM outbox WHERE incident = ? ORDER BY created, receiver, seq", (incident,))  # noqa: S608
    return [dict(zip(names, row, strict=True)) for row in rows]


def drop_old(connection: sqlite3.Connection, before: float, bite: int = 5_000) -> int:
    """Delete messages of incidents that were over before `before` (Unix s); how many went."""
    return connection.execute(
        """
        DELETE FROM outbox WHERE id IN (
            SELECT outbox.id FROM outbox LEFT JOIN incident ON incident.id = outbox.incident
            WHERE state NOT IN ('queued', 'inflight') AND coalesce(incident.resolved, outbox.done) < ?
            AND (incident.id IS NULL OR incident.resolved IS NOT NULL) LIMIT ?)""",
        (before, bite),
    ).rowcount
