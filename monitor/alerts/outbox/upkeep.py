"""Looking at the outbox, and clearing it up."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from monitor.alerts.outbox.rows import REFUSED

AILING_AFTER = 300.0  # s for which a receiver may fail before it counts as a fault of ours


@dataclass(frozen=True, slots=True)
class Ailing:
    """A receiver that does not get what it should. `since`: Unix s of the first attempt; `reason`: of the newest failure of the oldest page."""

    since: float
    reason: str
    refused: bool  # even the least that helps is refused for good: nothing but a person will mend it
    pages: int  # how many wait; tickets are not counted


def ailing(connection: sqlite3.Connection, now: float) -> dict[str, Ailing]:
    """Receivers that refuse a page of an incident that is open, or could not be told of one for five minutes."""
    rows = connection.execute(
        f"""
        SELECT receiver, min(first_attempt), last_error, total(minimal = {REFUSED}) > 0,
               CAST(total(json_extract(incident.facts, '$.urgency') = 'page') AS INTEGER)
        FROM outbox JOIN incident ON incident.id = outbox.incident
        WHERE outbox.kind = 'firing' AND state IN ('queued', 'inflight') AND resolved IS NULL AND last_code <> ''
        AND (minimal = {REFUSED} OR first_attempt <= ?) GROUP BY receiver""",  # noqa: S608 - a number of ours
        (now - AILING_AFTER,),
    )
    return {receiver: Ailing(since, reason, bool(refused), pages) for receiver, since, reason, refused, pages in rows}


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
    names = (
        "id", "receiver", "kind", "escalation", "state", "created", "attempts", "first_attempt", "done", "last_code", "last_error", "instead_of",
    )
    rows = connection.execute(f"SELECT {', '.join(names)} FROM outbox WHERE incident = ? ORDER BY created, receiver, seq", (incident,))  # noqa: S608
    return [dict(zip(names, row, strict=True)) for row in rows]


def drop_old(connection: sqlite3.Connection, before: float, bite: int = 5_000) -> int:
    """Delete messages of incidents that were over before `before` (Unix s), and what had expired by then; how many went."""
    return connection.execute(
        """
        DELETE FROM outbox WHERE id IN (
            SELECT outbox.id FROM outbox LEFT JOIN incident ON incident.id = outbox.incident
            WHERE (state NOT IN ('queued', 'inflight', 'parked') AND coalesce(incident.resolved, outbox.done) < ?
                   OR state IN ('queued', 'parked') AND outbox.expires < ?)
            AND (incident.id IS NULL OR incident.resolved IS NOT NULL) LIMIT ?)""",
        (before, before, bite),
    ).rowcount
